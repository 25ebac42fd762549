"""The functions that arithmetic with schedules applies to their values."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _divide(a: jax.Array, b: jax.Array) -> jax.Array:
    # The inner `where` keeps the derivative finite where the denominator is 0.
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "+": jnp.add,
    "-": lambda a, *b: a - b[0] if b else -a,
    "*": jnp.multiply,
    "/": _divide,
    "min": jnp.minimum,
    "max": jnp.maximum,
    "raised_to": jnp.power,
}

"""Which names of a precision of matrix products JAX knows."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.authors import described


def check_precision(precision: Any, where: str) -> None:
    """Refuse a precision that `jax.numpy.matmul` would refuse in the middle of a step.

    Args:
        precision: the precision of matrix products, or None.
        where: the argument in messages, such as `"newton_schulz(precision=...)"`.

    Raises:
        ValueError: if `jax.numpy.matmul` does not take it.
    """
    if precision is None:
        return
    square = jax.ShapeDtypeStruct((1, 1), jnp.float32)
    try:
        jax.eval_shape(lambda x: jnp.matmul(x, x, precision=precision), square)
    except (ValueError, TypeError):
        raise ValueError(
            f"`{where}` must be a precision of `jax.numpy.matmul`, such as 'highest', 'high' or "
            f"'default', or None, not {described(precision)}."
        ) from None

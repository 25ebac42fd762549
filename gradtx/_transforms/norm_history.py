"""What clipping by the norms of earlier steps has in common."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.history import StepNorm
from gradtx._core.schedule import next_count
from gradtx._core.trees import PyTree, tree_map
from gradtx._transforms.clip import shrink


def shrunk(updates: PyTree, norm: StepNorm, limit: jax.Array) -> PyTree:
    """The updates, whose global norm is `norm`, shrunk to a norm of at most `limit`."""
    factor, unit = shrink(norm.unit, norm.ratio, limit)
    inverse = 1 / unit
    return tree_map(lambda u: u * inverse.astype(u.dtype) * factor.astype(u.dtype), updates)


def counted(clipped: jax.Array, above: jax.Array) -> jax.Array:
    """The number of clipped steps after a step that is clipped if `above` is True."""
    return jnp.where(above, next_count(clipped), clipped)


def recorded(norm: StepNorm) -> jax.Array:
    """Whether a norm enters the history: not if it is infinite, NaN or 0.

    A history of zeros would clip the first gradient that is not 0 to 0, and so would never change.
    """
    return norm.finite & (norm.value > 0)


def kept(norm: StepNorm, new: Any, old: Any) -> Any:
    """The new state, or the old one if the norm does not enter the history."""
    return jax.tree.map(lambda n, o: jnp.where(recorded(norm), n, o), new, old)


def check_whole(tx: Any, name: str, least: int) -> None:
    """Refuse a field that is not a whole number of steps.

    Raises:
        ValueError: if the field `name` of `tx` is not an integer, or if it is less than `least`.
    """
    value = getattr(tx, name)
    if type(value) is not int or value < least:
        raise ValueError(
            f"`{type(tx).__name__}({name}={value!r})` must be a whole number of steps, {least} or more."
        )

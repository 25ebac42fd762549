"""The norm of one step, and its average and deviation over the steps, without overflow."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.numerics import nonzero_or_one, norm_parts, sqrt
from gradtx._core.trees import PyTree


class StepNorm(NamedTuple):
    """The global norm of a tree.

    Attributes:
        unit, ratio: the two factors of the norm, see `norm_parts`.
        value: the norm, in which the largest number of the dtype stands for a norm that overflows.
        finite: whether all entries of the tree are finite.
    """

    unit: jax.Array
    ratio: jax.Array
    value: jax.Array
    finite: jax.Array


def step_norm(tree: PyTree, axis_name: Any = None) -> StepNorm:
    """The global norm of a tree, also over the devices along `axis_name`."""
    unit, ratio = norm_parts(tree, axis_name)
    norm = scalar(unit * ratio)
    finite = jnp.isfinite(scalar(unit)) & jnp.isfinite(scalar(ratio))
    value = jnp.where(finite, jnp.minimum(norm, jnp.finfo(norm.dtype).max), norm)
    return StepNorm(unit, ratio, value, finite)


def combined(keep: jax.Array, old: jax.Array, weight: jax.Array, new: jax.Array) -> jax.Array:
    """The root of `keep * old**2 + weight * new**2`, where no square overflows."""
    unit = nonzero_or_one(jnp.maximum(jnp.abs(new), old))
    square = keep * jnp.square(old / unit) + weight * jnp.square(new / unit)
    return jnp.minimum(unit * sqrt(square), jnp.finfo(old.dtype).max)

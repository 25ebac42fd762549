"""Accumulators that are smaller than their parameter: along some of its axes they have one entry."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

from gradtx._core.dtypes import promote, real_dtype
from gradtx._core.numerics import abs_square
from gradtx._core.shapes import Leaf
from gradtx._core.sharding import mesh_axes, placed_on


def reduced_accumulator(
    param: Any, shape: Sequence[int], axes: Sequence[int | None], fill: ArrayLike = 0.0
) -> jax.Array:
    """A real array in which to accumulate one number for many entries of a parameter.

    Args:
        param: the parameter, or a `jax.ShapeDtypeStruct`.
        shape: the shape of the array.
        axes: for each axis of the array, the axis of the parameter that it is sharded like, or None.
        fill: the value of every entry.
    """
    x = jnp.full(shape, fill, real_dtype(promote(param.dtype, jnp.float32)))
    if isinstance(param, jax.ShapeDtypeStruct) or (spec := mesh_axes(param)) is None:
        return x
    names = [() if k is None else spec[k] for k in axes]
    return placed_on(x, param, PartitionSpec(*(own or None for own in names)))


def mean_square(x: Leaf, axes: Sequence[int], *, keepdims: bool = False) -> jax.Array:
    """The mean of the squared absolute values along some axes, which is finite if the squares are."""
    return mean(abs_square(x), axes, keepdims=keepdims)


def mean(x: Leaf, axes: Sequence[int], *, keepdims: bool = False) -> jax.Array:
    """The mean of numbers along some axes, where the sum of all of them may be infinite."""
    count = max(math.prod(x.shape[k] for k in axes), 1)
    # Every number is divided before the sum, so that the sum stays finite.
    return jnp.sum(x / count, tuple(axes), keepdims=keepdims)

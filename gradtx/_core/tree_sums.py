"""Inner products and sums of absolute values over all arrays of a tree."""

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype, scalar
from gradtx._core.numerics import shard_axes
from gradtx._core.trees import PyTree, flatten


def inner_product(a: PyTree, b: PyTree, axis_name: Hashable | None = None) -> jax.Array:
    """The real inner product of two trees; leaves that are None in `a` count nothing.

    Args:
        a: a tree of arrays.
        b: a tree of arrays of the same shapes.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the arrays are
            sharded. None means this device's part.
    """

    def product(x: jax.Array, y: jax.Array) -> jax.Array:
        x, y = x.astype(compute_dtype(x, y)), y.astype(compute_dtype(x, y))
        if jnp.iscomplexobj(x):
            return jnp.sum(x.real * y.real) + jnp.sum(x.imag * y.imag)
        return jnp.sum(x * y)

    return _total(product, a, b, axis_name=axis_name)


def sum_of_sizes(tree: PyTree, axis_name: Hashable | None = None) -> jax.Array:
    """The sum of the absolute values of all entries.

    Args:
        tree: a tree of arrays.
        axis_name: as in `inner_product`.
    """
    return _total(lambda x: jnp.sum(jnp.abs(x)), tree, axis_name=axis_name)


def _total(f: Callable[..., jax.Array], first: PyTree, *rest: PyTree, axis_name: Any) -> jax.Array:
    """The sum of `f` over the leaves, on this device and then over the shards."""
    leaves, structure = flatten(first)
    others = [structure.flatten_up_to(tree) for tree in rest]
    kinds: dict[Any, jax.Array] = {}
    for x, *xs in zip(leaves, *others, strict=True):
        if x is not None:
            axes, own = shard_axes(x, axis_name), scalar(f(x, *xs))
            kinds[axes] = kinds[axes] + own if axes in kinds else own
    parts = [jax.lax.psum(x, axes) if axes else x for axes, x in kinds.items()]
    return sum(parts[1:], parts[0]) if parts else scalar(0.0)

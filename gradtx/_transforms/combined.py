"""Copies of parameters, and functions of arrays in different dtypes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gradtx._core.dtypes import accumulator, compute_dtype
from gradtx._core.trees import PyTree, tree_map


def copied(param: Any, dtype: DTypeLike | None = None) -> jax.Array:
    """A copy of a parameter in float32 at least, or zeros if `init` was called with shapes.

    Args:
        param: the parameter.
        dtype: the dtype of the copy. None means the dtype of the parameter, and float32 at least.
    """
    x = accumulator(param, dtype)
    if isinstance(param, jax.ShapeDtypeStruct):
        return x
    return jnp.array(param, x.dtype, copy=True)


def combined(f: Callable[..., Any], first: PyTree, *rest: PyTree, gaps: Any = None) -> PyTree:
    """`f` of every array of `first` and the arrays of `rest` at its place, all in one dtype.

    Args:
        f: a function of arrays.
        first: a tree of arrays, with None where a leaf is not updated.
        rest: trees of arrays.
        gaps: the tree whose entries stand in the result where `first` has None. None means None.
    """

    def apply(x: Any, *xs: Any) -> Any:
        dtype = compute_dtype(x, *xs)
        return f(*(y.astype(dtype) for y in (x, *xs)))

    if gaps is None:
        return tree_map(apply, first, *rest)
    kept = lambda x, gap, *xs: gap if x is None else apply(x, *xs)
    return jax.tree.map(kept, first, gaps, *rest, is_leaf=lambda x: x is None)

"""Trees of arrays: what counts as a leaf, and where it stands.

Inside the library a tree has `None` wherever there is nothing to do: an integer or non-array leaf of
the parameters, a leaf that another group owns, a missing gradient. All maps pass over `None`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Structure = Any  # a `PyTreeDef`, which type checkers know as a value only


def is_none(x: Any) -> bool:
    """For `is_leaf`: None marks a leaf where there is nothing to do."""
    return x is None


def flatten(tree: PyTree) -> tuple[list[Any], Structure]:
    """Leaves and structure, with `None` as a leaf."""
    return jax.tree.flatten(tree, is_leaf=is_none)


def tree_map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` that leaves `None` alone wherever the first tree has it."""
    return jax.tree.map(
        lambda x, *xs: None if x is None else f(x, *xs), tree, *rest, is_leaf=is_none
    )


def path_string(path: tuple[Any, ...]) -> str:
    """A key path as people write it: `layers/0/attention/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf of `flatten(tree)`, in its order: that of its box if it is in one."""
    with_path, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    boxes = {p for p, x in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box) if _is_box(x)}
    return [path_string(p[:-1] if p[:-1] in boxes else p) for p, _ in with_path]


def _is_box(x: Any) -> bool:
    # Flax's variables and partitioned arrays. `nnx.Optimizer` shows them at init and not at update, and
    # a leaf must not change its name for that.
    return hasattr(type(x), "raw_value") or hasattr(type(x), "unbox")


def is_inexact(x: Any) -> bool:
    """Whether `x` is something that is optimized: a floating or complex array, or a Python number."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float | complex) if dtype is None else is_inexact_dtype(dtype)


@functools.lru_cache
def is_inexact_dtype(dtype: Any) -> bool:
    """Whether this is a floating or complex dtype."""
    return bool(jnp.issubdtype(dtype, jnp.inexact))


def leaf_items(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """`(path, leaf)` of every leaf that is not None."""
    leaves, _ = flatten(tree)
    return ((p, x) for p, x in zip(paths(tree), leaves, strict=True) if x is not None)

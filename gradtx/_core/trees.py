"""Trees of arrays: their leaves, and the paths of these leaves.

Inside the library, a tree holds None in place of every leaf that is not updated: a parameter that is
an integer or not an array, a leaf of another group of a `partition`, a missing gradient. None counts as
a leaf here, and all maps pass over it.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Structure = Any  # a `PyTreeDef`, which type checkers do not accept as a type


def is_none(x: Any) -> bool:
    """Whether `x` is None, as the argument `is_leaf` of JAX's functions on trees."""
    return x is None


_VIEWS = type({}.keys()), type({}.values()), type({}.items())


def flatten(tree: PyTree) -> tuple[list[Any], Structure]:
    """The leaves and the structure of a tree, where None counts as a leaf.

    Raises:
        TypeError: if the tree is an iterator, such as a generator, or a view of a dictionary.
    """
    if hasattr(type(tree), "__next__") or isinstance(tree, _VIEWS):
        raise TypeError(
            f"A tree of arrays is needed, and a `{type(tree).__name__}` was passed, which JAX takes for "
            "a single leaf. Pass a list of its items, `list(...)`."
        )
    return jax.tree.flatten(tree, is_leaf=is_none)


def tree_map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map`, except that the result is None wherever the first tree has None."""
    return jax.tree.map(
        lambda x, *xs: None if x is None else f(x, *xs), tree, *rest, is_leaf=is_none
    )


def path_string(path: tuple[Any, ...]) -> str:
    """A key path of JAX as a string, such as `layers/0/attention/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf, in the order of `flatten(tree)`.

    A leaf inside a box, such as a variable of Flax, gets the path of the box.
    """
    with_path, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    boxed = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box)
    boxes = {p for p, x in boxed if hasattr(type(x), "raw_value") or hasattr(type(x), "unbox")}
    return [path_string(p[:-1] if p[:-1] in boxes else p) for p, _ in with_path]


def _is_box(x: Any) -> bool:
    # Flax's variables and partitioned arrays are boxes. `nnx.Optimizer` passes them to `init`, but not
    # to `update`, and the path of a leaf must be the same in both.
    return hasattr(type(x), "raw_value") or hasattr(type(x), "unbox")


def is_inexact(x: Any) -> bool:
    """Whether `x` can be optimized: a floating or complex array, or a Python float or complex number."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float | complex) if dtype is None else is_inexact_dtype(dtype)


@functools.lru_cache
def is_inexact_dtype(dtype: Any) -> bool:
    """Whether `dtype` is floating or complex."""
    return bool(jnp.issubdtype(dtype, jnp.inexact))


def leaf_items(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """The pairs `(path, leaf)` of all leaves that are not None."""
    leaves, _ = flatten(tree)
    return ((p, x) for p, x in zip(paths(tree), leaves, strict=True) if x is not None)


def unboxed(tree: PyTree) -> PyTree:
    """`tree` with the array of every variable of Flax NNX in place of the variable."""
    return jax.tree.map(
        lambda x: x.get_value() if _is_variable(x) else x, tree, is_leaf=_is_variable
    )


def boxed_like(new: PyTree, old: PyTree) -> PyTree:
    """The arrays of `new` inside copies of the variables of Flax NNX that `old` has in their places."""

    def box(variable: Any, x: Any) -> Any:
        return variable.replace(x) if _is_variable(variable) else x

    return jax.tree.map(box, old, new, is_leaf=lambda x: x is None or _is_variable(x))


def _is_variable(x: Any) -> bool:
    return hasattr(type(x), "raw_value")

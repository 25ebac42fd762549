"""The boundary of a transformation: it checks and converts arguments, and rounds the updates.

Errors name the field, the path of the leaf or the part of the state that is wrong.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import compute_dtype, result_dtype, returned
from gradtx._core.functions import of_all_params as of_all_params
from gradtx._core.numerics import filled_like
from gradtx._core.trees import PyTree, Structure, flatten, is_inexact, paths
from gradtx._core.values import Value


def check_mapped(tx: Any) -> None:
    """Refuse a sweep, an array in the field of a single number, that `vmap` has not mapped over.

    Raises:
        ValueError: if such a field holds an array with axes.
    """
    if "_is_mapped" in tx.__dict__:
        return
    if field := unmapped_field(tx):
        raise ValueError(
            f"`{field}` is an array where a step needs one number. To run the optimizers of a "
            "sweep side by side, map over it: `jax.vmap(train, in_axes=(gradtx.axes(tx),))(tx)`."
        )
    tx.__dict__["_is_mapped"] = True


def unmapped_field(node: Any) -> str:
    """The first field of a single number that holds an array with axes, or an empty string.

    It is named in the form `sgd(learning_rate=...)`.
    """
    if isinstance(node, Value):
        for name in node._data:
            value = getattr(node, name)
            if name in node._numbers:
                # The initial value of a state may have the shape of a parameter.
                if getattr(value, "ndim", 0) and not name.startswith("initial"):
                    return f"{type(node).__name__}({name}=...)"
            elif found := unmapped_field(value):
                return found
        return ""
    inside = node.values() if isinstance(node, dict) else node if type(node) is tuple else ()
    return next(filter(None, map(unmapped_field, inside)), "")


def owners_of(
    gradients: list[Any], structure: Structure, updates: PyTree, params: PyTree
) -> list[Any]:
    """The parameter of every gradient, or None for each if `params` is None.

    Raises:
        ValueError: if a gradient and its parameter differ in shape or kind, with the path of the leaf.
    """
    owners = (
        [None] * len(gradients) if params is None else matching_params(params, updates, structure)
    )
    for i, (g, p) in enumerate(zip(gradients, owners, strict=True)):
        problem = mismatch(g, p) if params is not None else _not_a_gradient(g)
        if problem:
            raise ValueError(f"The gradient at `{paths(updates)[i] or '.'}` {problem}.")
    return owners


def _not_a_gradient(g: Any) -> str:
    dtype = getattr(g, "dtype", None)
    if dtype is None or dtype == jax.dtypes.float0 or is_inexact(g):
        return ""
    if jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_):
        return (
            f"is {dtype}, and a gradient must be a real or complex number; if this parameter is not to "
            "be optimized, pass the parameters to `update` as well"
        )
    return ""


def strong(x: Any) -> jax.Array:
    """A Python number as a strongly typed array, in JAX's default dtype for its type."""
    return jax.lax.convert_element_type(x, jax.dtypes.canonicalize_dtype(type(x)))


def as_param(x: Any) -> Any:
    """`x` as a strongly typed array, or None if it is not optimized, such as an array of integers."""
    if not is_inexact(x):
        return None
    if isinstance(x, jax.Array | jax.ShapeDtypeStruct) and not x.weak_type:
        return x
    if isinstance(x, jax.Array):
        return jax.lax.convert_element_type(x, x.dtype)
    dtype = jax.dtypes.canonicalize_dtype(getattr(x, "dtype", type(x)))
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, dtype)
    return jnp.asarray(x, dtype)


def matching_params(params: PyTree, updates: PyTree, structure: Structure) -> list[Any]:
    """The parameters of the gradients, leaf by leaf.

    Raises:
        ValueError: if the two trees differ in structure.
    """
    owners, wanted = flatten(params)
    if wanted == structure:
        return owners
    have, want = set(paths(updates)), set(paths(params))
    difference = sorted(have ^ want)
    where = f"first at `{difference[0]}`" if difference else "in the types of their containers"
    if "" in difference:
        where = "one of them is a single leaf"
    remedy = "Take the gradient with respect to the parameters that you pass."
    if any(map(_has_states, (updates, params))):
        remedy = "One of them is a state; the arguments of `update` are (updates, state, params)."
    raise ValueError(
        f"Gradients and parameters differ in structure, {where}: the gradients are {structure}, the "
        f"parameters {wanted}. {remedy}"
    )


def _has_states(tree: PyTree) -> bool:
    """Whether a tree contains a NamedTuple whose class is called a state."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: type(x).__name__.endswith("State"))
    return any(type(x).__name__.endswith("State") for x in nodes)


def mismatch(g: Any, p: Any) -> str:
    """What is wrong with gradient `g` for parameter `p`, or an empty string."""
    dtype = getattr(g, "dtype", None)
    if dtype is not None and g.shape == getattr(p, "shape", None) and dtype == p.dtype:
        return ""  # the common case comes first, since the checks below are slower
    if p is None or g is None or not is_inexact(p) or dtype == jax.dtypes.float0:
        return ""
    if np.shape(g) != np.shape(p):
        return f"has shape {np.shape(g)}, and its parameter has shape {np.shape(p)}"
    if not is_inexact(g):
        kind = getattr(g, "dtype", type(g).__name__)
        return f"is {kind}, and its parameter is a real or complex number"
    if jnp.iscomplexobj(p) != jnp.iscomplexobj(g):
        return f"is {jnp.result_type(g)}, and its parameter is {jnp.result_type(p)}"
    return ""


def rounding_of(tx: Any) -> Callable[..., Any]:
    """How the updates of `tx` are rounded: `round_update` with its first argument."""
    return functools.partial(round_update, tx.traits.wide)


def round_update(wide: bool, u: Any, gradient: Any, param: Any, p: Any) -> Any:
    """The update as the caller gets it, in the common dtype of its gradient and its parameter.

    Args:
        wide: whether this dtype is to be float32 at least.
        u: the update, or None if the leaf was not updated.
        gradient: the gradient after the conversion by `as_param`.
        param: the parameter after the conversion by `as_param`.
        p: the parameter as the caller passed it.
    """
    if u is not None:
        dtype = compute_dtype(gradient, param) if wide else result_dtype(gradient, param)
        return returned(u, dtype)
    dtype = getattr(p, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        return None
    # The leaf is not updated. Adding -0.0 leaves every number unchanged; adding 0.0 would change -0.0.
    return filled_like(p, -0.0 if is_inexact(p) else 0)


def with_empty_parts_of(want: Any, state: Any) -> Any:
    """`state` with each part that has no arrays replaced by the part of `want` at its place.

    So `()`, None and `EmptyState()` are accepted for each other.
    """
    if not jax.tree.leaves(want):
        return want if not jax.tree.leaves(state) else state
    if isinstance(want, tuple) and isinstance(state, tuple | list) and len(want) == len(state):
        if hasattr(want, "_fields") and getattr(state, "_fields", None) != want._fields:  # pyright: ignore
            return state
        fields = [with_empty_parts_of(w, s) for w, s in zip(want, state, strict=True)]
        return type(want)(*fields) if hasattr(want, "_fields") else tuple(fields)
    if isinstance(want, dict) and isinstance(state, dict) and want.keys() == state.keys():
        return {k: with_empty_parts_of(w, state[k]) for k, w in want.items()}
    return state

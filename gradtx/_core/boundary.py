"""The boundary of a transformation: what comes in is checked and made ready, what goes out is rounded.

Errors say which field, which leaf (by its path) or which part of the state was wrong.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import result_dtype
from gradtx._core.trees import PyTree, Structure, flatten, is_inexact, paths
from gradtx._core.values import Value


def unmapped(node: Any) -> str:
    """The field of one number that holds an array with axes, if any, as `sgd(learning_rate=...)`."""
    if isinstance(node, Value):
        for name in node._data:
            value = getattr(node, name)
            if name in node._numbers:
                # What a state starts from may have the shape of a parameter.
                if getattr(value, "ndim", 0) and not name.startswith("initial"):
                    return f"{type(node).__name__}({name}=...)"
            elif found := unmapped(value):
                return found
        return ""
    inside = node.values() if isinstance(node, dict) else node if type(node) is tuple else ()
    return next(filter(None, map(unmapped, inside)), "")


def as_param(x: Any) -> Any:
    """`x` as something to optimize: a strongly typed array, or None."""
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


def matching(params: PyTree, updates: PyTree, structure: Structure) -> list[Any]:
    """The parameters of the gradients, leaf by leaf; `ValueError` where the two trees differ."""
    owners, wanted = flatten(params)
    if wanted == structure:
        return owners
    have, want = set(paths(updates)), set(paths(params))
    difference = sorted(have ^ want)
    where = f"first at `{difference[0]}`" if difference else "in the types of their containers"
    raise ValueError(
        f"Gradients and parameters differ in structure, {where}: the gradients are {structure}, the "
        f"parameters {wanted}. Take the gradient with respect to the parameters that you pass."
    )


def mismatch(g: Any, p: Any) -> str:
    """What is wrong with gradient `g` for parameter `p`, or an empty string."""
    dtype = getattr(g, "dtype", None)
    if dtype is not None and g.shape == getattr(p, "shape", None) and dtype == p.dtype:
        return ""  # the common case, before the slower questions
    if p is None or g is None or not is_inexact(p) or dtype == jax.dtypes.float0:
        return ""
    if np.shape(g) != np.shape(p):
        return f"has shape {np.shape(g)}, its parameter {np.shape(p)}"
    if not is_inexact(g):
        return f"is {getattr(g, 'dtype', type(g).__name__)}, its parameter a real or complex number"
    if jnp.iscomplexobj(p) != jnp.iscomplexobj(g):
        return f"is {jnp.result_type(g)}, its parameter {jnp.result_type(p)}"
    return ""


def leave(u: Any, gradient: Any, param: Any, p: Any) -> Any:
    """Update `u` as it leaves for a gradient and a parameter, which was `p` as it came in."""
    if u is not None:
        dtype = result_dtype(gradient, param)
        return u if u.dtype == dtype else jax.lax.convert_element_type(u, dtype)
    dtype = getattr(p, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        return None
    # Nothing to do here. Adding -0.0 leaves every number, also -0.0, as it was.
    return jnp.full_like(p, -0.0 if is_inexact(p) else 0)


def foreign_state(tx: Any, state: Any, params: PyTree) -> str:
    """What says that `state` is not one that `init` makes, if it is not: asked when a step fails."""
    try:
        want = jax.eval_shape(tx.init, params)
    except Exception:  # what failed before is the better message
        return ""
    if jax.tree.structure(want) == jax.tree.structure(state):
        return ""
    differing = sorted({*paths(want)} ^ {*paths(state)})
    where = f", first at `{differing[0]}`" if differing else ""
    return (
        f"The state is not one that `init` of `{tx}` makes: they differ in structure{where}. Make it "
        "with `init`, from the parameters that it is used with."
    )

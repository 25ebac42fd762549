"""The boundary of a transformation: what comes in is checked and made ready, what goes out is rounded.

Errors say which field, which leaf (by its path) or which part of the state was wrong.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import result_dtype
from gradtx._core.trees import PyTree, Structure, flatten, is_inexact, path_string, paths
from gradtx._core.values import Value


def check_mapped(tx: Any) -> None:
    """Raise `ValueError` if a field of one number holds an array with axes: a sweep not mapped over."""
    if "_is_mapped" in tx.__dict__:
        return
    if field := unmapped(tx):
        raise ValueError(
            f"`{field}` is an array where a step needs one number. To run the optimizers of a "
            "sweep side by side, map over it: `jax.vmap(train, in_axes=(gradtx.axes(tx),))(tx)`."
        )
    tx.__dict__["_is_mapped"] = True


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


def owners_of(
    gradients: list[Any], structure: Structure, updates: PyTree, params: PyTree
) -> list[Any]:
    """The parameter of every gradient, None without parameters.

    Raises `ValueError` where gradient and parameter do not belong together, with the path of the leaf.
    """
    owners = [None] * len(gradients) if params is None else matching(params, updates, structure)
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
            f"is {dtype}, and a gradient must be a real or complex number; pass the parameters as well "
            "if this parameter is not to be optimized"
        )
    return ""


def strong(x: Any) -> jax.Array:
    """A Python number as a strongly typed array of JAX's default dtype for it."""
    return jax.lax.convert_element_type(x, jax.dtypes.canonicalize_dtype(type(x)))


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


def round_update(u: Any, gradient: Any, param: Any, p: Any) -> Any:
    """The update as the caller gets it, in the dtype of its gradient and parameter.

    Args:
        u: the update, or None where nothing was done.
        gradient, param: as they were worked on.
        p: the parameter as the caller passed it.
    """
    if u is not None:
        dtype = result_dtype(gradient, param)
        return u if u.dtype == dtype else jax.lax.convert_element_type(u, dtype)
    dtype = getattr(p, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        return None
    # Nothing to do here. Adding -0.0 leaves every number, also -0.0, as it was.
    return jnp.full_like(p, -0.0 if is_inexact(p) else 0)


def foreign_state(tx: Any, program: Any, state: Any, error: Exception) -> str:
    """What says that `state` is not one that `init` makes, if it is not: asked when a step fails.

    Where only a shape differs, it is a note of the error, which says where the two met.
    """
    want = program.layout.unflatten(program.numbers)
    try:
        program.layout.flatten_up_to(with_own_empties(want, state))
    except (ValueError, TypeError):
        differing = sorted({*paths(want)} ^ {*paths(state)})
        where = f", first at `{differing[0]}`" if differing else ""
        return (
            f"The state is not one that `init` of `{tx}` makes: they differ in structure{where}. Make "
            "it with `init`, from the parameters that it is used with."
        )
    try:
        fresh = jax.eval_shape(program.init, program.lowering.leaves)
    except Exception:
        return ""  # it fails by itself, or needs numbers: the error that is known says more
    pairs = zip(jax.tree_util.tree_leaves_with_path(fresh), jax.tree.leaves(state), strict=False)
    for (path, made), x in pairs:
        if made.shape != getattr(x, "shape", made.shape):
            error.add_note(
                f"The state is not one that `init` of `{tx}` makes for these parameters: "
                f"`{path_string(path) or '.'}` has shape {x.shape}, and should have {made.shape}. Make "
                "it again with `init`, from the parameters that it is used with."
            )
            break
    return ""


def with_own_empties(want: Any, state: Any) -> Any:
    """`state` with every empty part, whatever its kind, as the empty part that `want` has there."""
    if not jax.tree.leaves(want):
        return want if not jax.tree.leaves(state) else state
    if isinstance(want, tuple) and isinstance(state, tuple | list) and len(want) == len(state):
        if hasattr(want, "_fields") and getattr(state, "_fields", None) != want._fields:  # pyright: ignore
            return state
        fields = [with_own_empties(w, s) for w, s in zip(want, state, strict=True)]
        return type(want)(*fields) if hasattr(want, "_fields") else tuple(fields)
    if isinstance(want, dict) and isinstance(state, dict) and want.keys() == state.keys():
        return {k: with_own_empties(w, state[k]) for k, w in want.items()}
    return state


# What an author may write, and for each hook the base class that calls it.
_CALLED_BY = {
    "init_leaf": "Elementwise",
    "update_leaf": "Elementwise",
    "at_leaf": "Elementwise",
    "init_matrix": "Matrixwise",
    "update_matrix": "Matrixwise",
    "init_tree": "Transform",
    "update_tree": "Transform",
    "measure": "Elementwise",
    "begin": "Elementwise",
    "expand": "Recipe",
}


def check_class(cls: type, root: type) -> None:
    """Raise `TypeError` for what an author's class cannot mean: a hook that nothing would call."""
    for method in ("init", "update"):
        if method in vars(cls) and root in cls.__mro__[1:]:
            raise TypeError(
                f"`{cls.__name__}.{method}` would not be called in a composition: `{method}` is the "
                f"boundary, which checks and rounds. Write `{method}_leaf` in a subclass of "
                f"`Elementwise`, or `{method}_tree` in one of `Transform`."
            )
    for name in cls.limits:  # pyright: ignore
        if name not in cls._hints:  # pyright: ignore
            own = ", ".join(map("`{}`".format, cls._hints)) or "it has none"  # pyright: ignore
            raise TypeError(
                f"`limits` of `{cls.__name__}` names {name!r}, which is not one of its fields: {own}. "
                "Name a field there, or declare this one."
            )
    if "_hooks" in vars(cls):
        return  # a base class of this library, which says itself what it calls
    bases: Any = [base for base in cls.__bases__ if issubclass(base, root)]
    for before, base in itertools.pairwise(bases):
        if base.wraps and not before.wraps:
            names = ", ".join(b.__name__ for b in sorted(bases, key=lambda b: not b.wraps))
            raise TypeError(
                f"`{cls.__name__}` derives from `{before.__name__}` before `{base.__name__}`, which "
                f"then wraps nothing. Write `class {cls.__name__}({names})`."
            )
    kinds = [base for base in cls.__mro__ if "_hooks" in vars(base) and base is not root]
    kind: Any = kinds[-2 if len(kinds) > 1 and not kinds[-1]._hooks else -1] if kinds else root
    for hook, base in _CALLED_BY.items():
        if hook in vars(cls) and hook not in kind._hooks:
            own, remedy = f"`{kind.__name__}`", f"`{base}`"
            if cls.wraps and base != "Recipe":  # pyright: ignore
                own += " around another one" if kind.__name__ != "Wrapper" else ""
                remedy = "`Wrapper` alone" if base == "Transform" else f"`Wrapper` and `{base}`"
            raise TypeError(
                f"`{cls.__name__}.{hook}` would never be called: `{cls.__name__}` is a subclass of "
                f"{own}, which calls {', '.join(kind._hooks)}. Derive it from {remedy}, or write one "
                "of these."
            )

"""The error messages for mistakes in a user's own class.

`Missing` and `Shared` are placeholders for something that a method must not use; any use of them raises
an error that says so. The functions make the error for a wrong result of a method. They run only after
something went wrong.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx._core.static import show

_AGAIN = "if the state was made for other parameters, make it again with `init`"


class Missing:
    """A placeholder for parameters that were not passed; any use of it raises an error."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def _needed(self, *args: Any) -> Any:
        raise ValueError(
            f"`{type(self._tx).__name__}` needs the parameters: call `update(updates, state, params)`."
        )

    # JAX asks for the attribute `__jax_array__` first, so that its functions raise the same error.
    __getattr__ = __array__ = __len__ = __getitem__ = __bool__ = __iter__ = __float__ = _needed
    __eq__ = __ne__ = _needed  # pyright: ignore
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "parameters that were not passed"


class Shared:
    """A placeholder, in the state that the update of a leaf gets, for a scalar that all leaves share.

    Any use of it raises an error, since the scalar is advanced in `begin`, once per step.
    """

    def __init__(self, layout: Any, position: int) -> None:
        self._layout, self._position = layout, position

    def __repr__(self) -> str:
        return "shared"

    def _elsewhere(self, *args: Any) -> Any:
        name = self._layout.names[self._position]
        raise TypeError(
            f"`{name}` in the state of `{self._layout.owner}` is shared by all leaves, so the update of "
            f"one leaf cannot use it. Advance `{name}` in `begin`, with `return state._replace("
            f"{name}=...), values`; the update of every leaf gets `values` as its last argument."
        )

    def __eq__(self, other: object) -> bool:
        # JAX compares placeholders when it compares the structures of states. Only a comparison with
        # something else comes from a formula.
        return self is other or (not isinstance(other, Shared) and self._elsewhere())

    def __ne__(self, other: object) -> bool:
        return not self == other

    __getattr__ = __array__ = __len__ = __getitem__ = __bool__ = __iter__ = __float__ = _elsewhere
    __hash__ = object.__hash__


for _placeholder, _f in ((Missing, Missing._needed), (Shared, Shared._elsewhere)):
    for _name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"]:
        for _prefix in ("", "r"):
            setattr(_placeholder, f"__{_prefix}{_name}__", _f)
    for _name in ["neg", "abs", "lt", "le", "gt", "ge"]:
        setattr(_placeholder, f"__{_name}__", _f)


def kind_of(result: Any) -> str:
    """A description of what a method returned, without names from inside the library."""
    if hasattr(result, "dtype") and hasattr(result, "shape"):
        return f"one array of shape {tuple(result.shape)}"
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return f"a tuple of {len(result)}"
    plain = result is None or isinstance(result, str | int | float | complex)
    return show(result) if plain else f"`{type(result).__name__}`"


def described(value: Any) -> str:
    """A description of a wrong argument: its repr, unless that shows a tracer or an address."""
    if isinstance(value, Tracer):
        return f"a {value.dtype} array of shape {tuple(value.shape)}"
    if isinstance(value, type) or inspect.isroutine(value):
        name = value.__name__
        return f"`{name}` itself; call it, `{name}(...)`" if name.isidentifier() else "a function"
    if isinstance(value, jax.Array):
        return kind_of(value)
    if hasattr(value, "gradient_transformation"):  # `optax.MultiSteps`
        name = type(value).__name__
        return f"`{name}`, whose method `gradient_transformation()` makes one"
    text = show(value)
    return f"`{type(value).__name__}`" if " at 0x" in text or "Tracer" in text else text


def raise_for_placeholder(error: Exception, *given: Any) -> None:
    """Raise the error of a placeholder among `given`, if `error` is JAX's own complaint about it."""
    if "authors.Missing" in str(error) or "authors.Shared" in str(error):
        for x in jax.tree.leaves(given, is_leaf=lambda x: isinstance(x, Shared)):
            if isinstance(x, Missing):
                x._needed()
            if isinstance(x, Shared):
                x._elsewhere()


def hook_name(tx: Any, verb: str = "update") -> str:
    """The method that an author wrote, with its class: "`update_leaf` of `scale_by_lion`"."""
    unit = getattr(tx, "unit", tx)
    what = "matrix" if hasattr(unit, "update_matrix") else "leaf"
    return f"`{verb}_{what}` of `{type(unit).__name__}`"


def init_hook(tx: Any) -> str:
    """The method that returns the state before the first step: "`init_leaf`" or "`init_matrix`"."""
    return hook_name(tx, "init").partition(" ")[0]


def undefined(tx: Any, base: str, name: str) -> TypeError:
    """The error for a class that does not define the method that does the work."""
    first = "x" if name == "update_matrix" else "update"
    args = [first, "state"] if name == "update_matrix" else [first, "state", "param"]
    args += ["given"] * tx.wraps
    base = f"`Wrapper` and `{base}`" if tx.wraps else f"`{base}`"
    return TypeError(
        f"`{type(tx).__name__}` does not define `{name}`. A subclass of {base} provides "
        f"`{name}({', '.join(args)})`, which returns the update and the state."
    )


def scalar_update(tx: Any, update: Any, shape: tuple[int, ...], layout: Any) -> jax.Array:
    """An array made of the Python number that `update_leaf` returned, if the leaf is a scalar.

    Raises:
        ValueError: if the update is anything else, since its shape is then not the gradient's.
    """
    if not shape and isinstance(update, int | float | complex):
        return jnp.asarray(update)
    what = f"an update of shape {update.shape}" if hasattr(update, "shape") else kind_of(update)
    raise ValueError(
        f"{hook_name(tx)} returned {what} for a gradient of shape {shape}. Return an update of the "
        "gradient's shape" + (f"; {_AGAIN}." if layout is not None and layout.arrays else ".")
    )


def not_matrices(tx: Any, x: Any, shape: tuple[int, ...]) -> ValueError:
    """The error for an update that does not have the shape of the matrices."""
    what = f"an update of shape {x.shape}" if hasattr(x, "shape") else kind_of(x)
    return ValueError(
        f"{hook_name(tx)} returned {what} for matrices of shape {shape}, [batch, in, out]. Return an "
        "update of this shape."
    )


def not_a_pair(tx: Any, result: Any, write: str) -> TypeError:
    """The error for a result that is not a pair of an update and a state."""
    return TypeError(
        f"{hook_name(tx)} must return the update and the new state; it returned {kind_of(result)}. "
        f"Write `{write}`."
    )


def not_for_a_leaf(tx: Any, made: Any, path: str) -> TypeError:
    """The error for a result of `at_leaf` that is not an `Elementwise` transformation."""
    return TypeError(
        f"`at_leaf` of `{type(tx).__name__}` returned {described(made)} for the leaf `{path or '.'}`. "
        "Return `self`, or the `Elementwise` transformation to use for this leaf."
    )


def undescribed(tx: Any, new: Any) -> TypeError:
    """The error for a new state that holds arrays, where the state before the first step is empty."""
    return TypeError(
        f"{hook_name(tx)} returned {kind_of(new)} for its state, but the state before the first step is "
        f"empty. Write {init_hook(tx)}, which returns the state before the first step."
    )


def other_state(tx: Any, layout: Any, new: Any) -> TypeError:
    """The error for a new state whose structure differs from the old one."""
    made = layout.structure.unflatten(["*"] * layout.size)
    return TypeError(
        f"{hook_name(tx)} returned {kind_of(new)} for its state, and the old state is {kind_of(made)}. "
        f"Return a state like the one that {init_hook(tx)} returns, with new arrays."
    )


def other_shape(tx: Any, name: str, new: Any, old: Any) -> ValueError:
    """The error for an array of the new state whose shape differs from the old one."""
    what = f"an array of shape {new.shape}" if hasattr(new, "shape") else kind_of(new)
    return ValueError(
        f"{hook_name(tx)} returned {what} for `{name}` of its state, and the old `{name}` has the shape "
        f"{old.shape}. Return a state like the one that {init_hook(tx)} returns; {_AGAIN}."
    )


def without_inner(tx: Any) -> TypeError:
    """The error for a wrapper whose state has no place for the inner transformation's state."""
    return TypeError(
        f"{hook_name(tx, 'init')} must put its second argument, `inner`, into the state: `inner` "
        "stands for the state of the inner transformation."
    )


def wrong_begin(tx: Any, result: Any, first: bool = False) -> TypeError:
    """The error for a result of `begin` that is not a pair of a state and values for every leaf."""
    what = "its first result was" if first else "it returned"
    return TypeError(
        f"`begin` of `{type(tx).__name__}` must return the state with its new shared scalars, and the "
        f"values for the update of every leaf; {what} {kind_of(result)}. Return "
        "`state._replace(count=...), values`."
    )


def wrong_scalar(tx: Any, name: str, new: Any, old: Any) -> TypeError:
    """The error for a shared scalar whose new value is not an array of the old shape."""
    what = f"an array of shape {new.shape}" if hasattr(new, "shape") else kind_of(new)
    return TypeError(
        f"`begin` of `{type(tx).__name__}` returned {what} for `{name}` of its state, which all leaves "
        f"share. Return an array of shape {old.shape} for it."
    )


def first_non_array(tree: Any, is_leaf: Any = None) -> list[Any]:
    """The first leaf of a tree that is neither an array nor a number, in a list that may be empty."""
    for x in jax.tree.leaves(tree, is_leaf=is_leaf):
        number = hasattr(x, "dtype") or isinstance(x, int | float | complex)
        if not number and not (is_leaf and is_leaf(x)):
            return [x]
    return []


def without_params(tx: Any, error: Exception) -> ValueError | None:
    """The error for an `update_tree` that failed because `params` is None; None for other failures."""
    if tx.is_foreign or "NoneType" not in str(error):
        return None
    return ValueError(
        f"`update_tree` of `{type(tx).__name__}` failed because the parameters were not passed, so that "
        "`params` is None: call `update(updates, state, params)`."
    )

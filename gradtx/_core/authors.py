"""What authors of transformations are told: parameters that speak, and what is wrong with a result.

These messages are made where something failed, and never on the way of a step that is right.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx._core.static import show

_AGAIN = "a state that was made for other parameters has to be made again, with `init`"


class Missing:
    """Parameters that were not passed: whatever uses them says so."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def _needed(self, *args: Any) -> Any:
        raise ValueError(
            f"`{type(self._tx).__name__}` needs the parameters: call `update(updates, state, params)`."
        )

    # JAX asks for `__jax_array__` before anything else, and so gets the sentence.
    __getattr__ = __array__ = __len__ = __getitem__ = __bool__ = __iter__ = __float__ = _needed
    __eq__ = __ne__ = _needed  # pyright: ignore
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "parameters that were not passed"


class Shared:
    """Stands in the state of a leaf where all leaves share a scalar: whatever uses it says so."""

    def __init__(self, layout: Any, position: int) -> None:
        self._layout, self._position = layout, position

    def __repr__(self) -> str:
        return "shared"

    def _elsewhere(self, *args: Any) -> Any:
        name = self._layout.names[self._position]
        raise TypeError(
            f"`{name}` in the state of `{self._layout.owner}` is shared by all leaves, which do not see "
            f"it. Advance it in `begin`: `return state._replace({name}=...), now`; `now` is the last "
            "argument of the update of a leaf."
        )

    def __eq__(self, other: object) -> bool:
        # As part of the structure of a state it is compared, and in a formula it speaks.
        return self is other or (not isinstance(other, Shared) and self._elsewhere())

    def __ne__(self, other: object) -> bool:
        return not self == other

    __getattr__ = __array__ = __len__ = __getitem__ = __bool__ = __iter__ = __float__ = _elsewhere
    __hash__ = object.__hash__


for _speaks, _f in ((Missing, Missing._needed), (Shared, Shared._elsewhere)):
    for _name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"]:
        for _prefix in ("", "r"):
            setattr(_speaks, f"__{_prefix}{_name}__", _f)
    for _name in ["neg", "abs", "lt", "le", "gt", "ge"]:
        setattr(_speaks, f"__{_name}__", _f)


def kind_of(result: Any) -> str:
    """What a hook returned, in words that show nothing of the library."""
    if hasattr(result, "dtype") and hasattr(result, "shape"):
        return f"one array of shape {tuple(result.shape)}"
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return f"a tuple of {len(result)}"
    plain = result is None or isinstance(result, str | int | float | complex)
    return show(result) if plain else f"`{type(result).__name__}`"


def described(value: Any) -> str:
    """What was given for something else: its code, unless that is a tracer or an address."""
    if isinstance(value, Tracer):
        return f"a {value.dtype} array of shape {tuple(value.shape)}"
    if isinstance(value, type) or inspect.isroutine(value):
        name = value.__name__
        return f"`{name}` itself; call it, `{name}(...)`" if name.isidentifier() else "a function"
    if isinstance(value, jax.Array):
        return kind_of(value)
    text = show(value)
    return f"`{type(value).__name__}`" if " at 0x" in text or "Tracer" in text else text


def speak(error: Exception, *given: Any) -> None:
    """Raise the sentence of what does not belong in a formula, if JAX refused it with its own words."""
    if "authors.Missing" in str(error) or "authors.Shared" in str(error):
        for x in jax.tree.leaves(given, is_leaf=lambda x: isinstance(x, Shared)):
            if isinstance(x, Missing):
                x._needed()
            if isinstance(x, Shared):
                x._elsewhere()


def hook(tx: Any, verb: str = "update") -> str:
    """The hook of a unit and whose it is: "`update_leaf` of `scale_by_lion`"."""
    unit = getattr(tx, "unit", tx)
    what = "matrix" if hasattr(unit, "update_matrix") else "leaf"
    return f"`{verb}_{what}` of `{type(unit).__name__}`"


def describes(tx: Any) -> str:
    """The hook that describes the state of a unit: "`init_leaf`"."""
    return hook(tx, "init").partition(" ")[0]


def undefined(tx: Any, base: str, name: str) -> TypeError:
    """For a class that lacks the hook which does the work."""
    first = "x" if name == "update_matrix" else "update"
    args = [first, "state"] if name == "update_matrix" else [first, "state", "param"]
    args += ["given"] * tx.wraps
    base = f"`Wrapper` and `{base}`" if tx.wraps else f"`{base}`"
    return TypeError(
        f"`{type(tx).__name__}` defines no `{name}`. A subclass of {base} provides "
        f"`{name}({', '.join(args)})`, which returns the update and the state."
    )


def fitted(tx: Any, update: Any, shape: tuple[int, ...], layout: Any) -> jax.Array:
    """A Python number as the update of a leaf without axes. Raises `ValueError` for anything else."""
    if not shape and isinstance(update, int | float | complex):
        return jnp.asarray(update)
    what = f"an update of shape {update.shape}" if hasattr(update, "shape") else kind_of(update)
    raise ValueError(
        f"{hook(tx)} returned {what} for a gradient of shape {shape}. Return an update of the "
        "gradient's shape" + (f"; {_AGAIN}." if layout is not None and layout.arrays else ".")
    )


def not_matrices(tx: Any, x: Any, shape: tuple[int, ...]) -> ValueError:
    """For an update of matrices that is not like them."""
    what = f"an update of shape {x.shape}" if hasattr(x, "shape") else kind_of(x)
    return ValueError(
        f"{hook(tx)} returned {what} for matrices of shape {shape}, [batch, in, out]. Return an update "
        "of this shape."
    )


def not_a_pair(tx: Any, result: Any, write: str) -> TypeError:
    """For a result that is not an update and a state."""
    return TypeError(
        f"{hook(tx)} must return the update and the new state; it returned {kind_of(result)}. "
        f"Write `{write}`."
    )


def not_for_a_leaf(tx: Any, made: Any, path: str) -> TypeError:
    """For what `at_leaf` returned, if it is not a transformation of a leaf."""
    return TypeError(
        f"`at_leaf` of `{type(tx).__name__}` returned {described(made)} for the leaf `{path or '.'}`. "
        "Return `self`, or what works on this leaf in its place."
    )


def undescribed(tx: Any, new: Any) -> TypeError:
    """For a state that no `init_leaf` describes."""
    name = describes(tx)
    return TypeError(
        f"{hook(tx)} returned {kind_of(new)} for its state, and nothing describes that. Write {name}, "
        "which returns the state before the first step."
    )


def other_state(tx: Any, layout: Any, new: Any) -> TypeError:
    """For a new state of another structure than the old one."""
    made = layout.structure.unflatten(["*"] * layout.size)
    return TypeError(
        f"{hook(tx)} returned {kind_of(new)} for its state, which is {kind_of(made)}. Return what "
        f"{describes(tx)} describes, with new arrays."
    )


def other_shape(tx: Any, name: str, new: Any, old: Any) -> ValueError:
    """For an array of the new state that is not like that of the old one."""
    what = f"an array of shape {new.shape}" if hasattr(new, "shape") else kind_of(new)
    return ValueError(
        f"{hook(tx)} returned {what} for `{name}` of its state, where it got one array of shape "
        f"{old.shape}. Return what {describes(tx)} describes, with new arrays; {_AGAIN}."
    )


def without_inner(tx: Any) -> TypeError:
    """For a wrapper whose state has no place for that of the inner transformation."""
    return TypeError(
        f"{hook(tx, 'init')} must put `inner`, its second argument, into the state: the state of the "
        "inner transformation belongs there."
    )


def wrong_begin(tx: Any, result: Any, first: bool = False) -> TypeError:
    """For a result of `begin` that is not a state and what the units are told."""
    what = "its first result was" if first else "it returned"
    return TypeError(
        f"`begin` of `{type(tx).__name__}` must return the state (its shared scalars, and None where "
        f"there are arrays) and what the units are told; {what} {kind_of(result)}. Return "
        "`state._replace(count=...), now`."
    )


def wrong_scalar(tx: Any, name: str, new: Any, old: Any) -> TypeError:
    """For a shared scalar of another shape, or none."""
    what = f"an array of shape {new.shape}" if hasattr(new, "shape") else kind_of(new)
    return TypeError(
        f"`begin` of `{type(tx).__name__}` returned {what} for `{name}` of its state, which all units "
        f"share. Return an array of shape {old.shape}."
    )


def no_array(tree: Any, is_leaf: Any = None) -> list[Any]:
    """A list of the first leaf of a tree that is neither an array nor a number, if there is one."""
    for x in jax.tree.leaves(tree, is_leaf=is_leaf):
        number = hasattr(x, "dtype") or isinstance(x, int | float | complex)
        if not number and not (is_leaf and is_leaf(x)):
            return [x]
    return []


def without_params(tx: Any, error: Exception) -> ValueError | None:
    """For a hook of trees that failed at None while it was given no parameters."""
    if tx.is_foreign or "NoneType" not in str(error):
        return None
    return ValueError(
        f"`update_tree` of `{type(tx).__name__}` was called without parameters, and did not expect "
        "None: call `update(updates, state, params)`."
    )

"""What a field of a value may hold, and how it is kept: numbers as floats, dtypes by name, mappings
frozen."""

import numbers
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._core.static import frozendict, static

_DATA = "data"
# NumPy's kinds of numbers; bfloat16 and the 8-bit floats are of kind V.
_NUMERIC = "biufcV"

# A hyperparameter: a number, an array, or a schedule (a function of the step that returns one). To a
# type checker it is `Any`, since inside an update schedules are already resolved and `1 - self.decay`
# is plain arithmetic.
Hyper = Annotated[Any, _DATA]


def mentions(hint: Any, what: Any) -> bool:
    """Whether an annotation names a type, alone or inside a union, a tuple or a mapping."""
    classes = isinstance(hint, type) and isinstance(what, type) and what is not tuple
    if hint is what or (classes and issubclass(hint, what)):
        return True
    inside = () if typing.get_origin(hint) is Annotated else typing.get_args(hint)
    return typing.get_origin(hint) is what or any(mentions(x, what) for x in inside)


def is_value(kind: Any) -> bool:
    """Whether this is a class of values."""
    return isinstance(kind, type) and hasattr(kind, "_unflatten")


def holds_data(hint: Any) -> bool:
    """Whether a field with this annotation is a child of the pytree."""
    if typing.get_origin(hint) is Annotated:
        return _DATA in hint.__metadata__
    if isinstance(hint, type) and not typing.get_args(hint):
        return issubclass(hint, jax.Array) or is_value(hint)
    return any(map(holds_data, typing.get_args(hint)))


def number_of(hint: Any) -> bool | None:
    """Whether None is allowed beside the one number that a field with this hint holds, if it does."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is not Annotated and type(None) in args:
        return True if Hyper in args and len(args) == 2 else None
    return False if hint == Hyper else None


def settle_data(value: Any, owner: Any, name: str) -> Any:
    """A data field as it is kept.

    Raises `TypeError` for what is not a number, an array or a schedule.
    """
    match value:
        case bool() | np.bool_():
            pass
        case None | static() | jax.Array():
            return value
        case np.ndarray() if value.dtype.kind in _NUMERIC:
            return value
        case _ if is_value(type(value)):
            return value
        case numbers.Real():
            return float(value)
        case Mapping():
            return frozendict({key: settle_data(v, owner, name) for key, v in value.items()})
        case tuple() | list():
            return tuple(settle_data(v, owner, name) for v in value)
        case Callable() if not jax.tree_util.all_leaves((value,)):
            return value  # a callable that is a pytree carries its own data
        case Callable():
            return static(value)
        case _:
            pass
    raise not_a_number(value, owner, name)


def not_a_number(value: Any, owner: Any, name: str) -> TypeError:
    """The error for a value that is not a number, an array or a schedule."""
    return TypeError(
        f"`{type(owner).__name__}({name}=...)` must be a number, an array or a schedule "
        f"(a function of the step), not {value!r}."
    )


def settle_static(value: Any, owner: Any, name: str) -> Any:
    """A static field as it is kept. Raises `TypeError` for a dtype in which no average can be kept."""
    match value:
        case None:
            return None
        case _ if name.endswith("dtype"):
            dtype = jnp.dtype(value)
            if not jnp.issubdtype(dtype, jnp.inexact):
                raise TypeError(
                    f"`{type(owner).__name__}({name}={dtype.name!r})` must be a floating or a complex "
                    "dtype."
                )
            return dtype.name
        case np.generic():
            return value.item()
        case Mapping():
            return frozendict({key: settle_static(v, owner, "") for key, v in value.items()})
        case list() | tuple() if type(value) in (list, tuple):
            return tuple(settle_static(v, owner, "") for v in value)
        case _:
            return value


def leaf_key(leaf: Any) -> Hashable:
    """What makes two leaves of values equal: a number, or an array's shape, dtype and bytes."""
    if isinstance(leaf, np.ndarray | jax.Array) and not isinstance(leaf, Tracer):
        return leaf.shape, str(leaf.dtype), np.asarray(leaf).tobytes()
    return leaf if isinstance(leaf, float | int | str) else id(leaf)


def inside(value: float, interval: str) -> bool:
    """Whether a number lies in an interval such as `"[0, 1)"`."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below

"""What the fields of a value may hold, and how their contents are stored.

The annotation of a field says whether the field is data or static (`holds_data`). `convert_data` and
`convert_static` turn what the user passed into what is stored: numbers become floats, dtypes become
their names, and mappings become immutable.
"""

import numbers
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from gradtx._core.authors import described
from gradtx._core.numbers import Number
from gradtx._core.printed import DTYPES, array_key
from gradtx._core.static import frozendict, static
from gradtx._core.tuned import Tuned

_DATA = "data"

# A hyperparameter: a number, an array, or a schedule (a function of the step that returns a number).
if TYPE_CHECKING:
    # Because of the base `Any`, whatever is read from a field is `Any` to a checker: inside an update,
    # where a class computes `1 - self.decay`, a schedule has been replaced by its value, and a sweep
    # reads `tx.decay.shape`.

    class AnyNumber(Protocol, Any):
        """A real number of Python or NumPy."""

        def __float__(self) -> float: ...

    class AnyArray(Protocol, Any):
        """An array of NumPy or JAX."""

        def __array__(self) -> np.ndarray: ...

    class Schedule(Protocol, Any):
        """A function of the step."""

        def __call__(self, step: Any, /) -> ArrayLike: ...

    Hyper: TypeAlias = AnyNumber | AnyArray | Schedule
    Fixed: TypeAlias = AnyNumber | AnyArray  # a hyperparameter that cannot be a schedule
else:
    Hyper = Annotated[Any, _DATA]
    Fixed = Annotated[Any, _DATA, "fixed"]


def mentions(hint: Any, what: Any) -> bool:
    """Whether an annotation names a type, alone or inside a union, a tuple or a mapping."""
    classes = isinstance(hint, type) and isinstance(what, type) and what is not tuple
    if hint is what or (classes and issubclass(hint, what)):
        return True
    inside = () if typing.get_origin(hint) is Annotated else typing.get_args(hint)
    return typing.get_origin(hint) is what or any(mentions(x, what) for x in inside)


def is_value(kind: Any) -> bool:
    """Whether `kind` is `Value` or a subclass of it."""
    return isinstance(kind, type) and hasattr(kind, "_unflatten")


def holds_data(hint: Any) -> bool:
    """Whether a field with this annotation is a child of the pytree."""
    if typing.get_origin(hint) is Annotated:
        return _DATA in hint.__metadata__
    if isinstance(hint, type) and not typing.get_args(hint):
        return issubclass(hint, jax.Array) or is_value(hint)
    return any(map(holds_data, typing.get_args(hint)))


def number_may_be_none(hint: Any) -> bool | None:
    """For a field that holds a single number: whether it may hold None instead.

    The result is None for a field that does not hold a single number.
    """
    args = typing.get_args(hint)
    if typing.get_origin(hint) is not Annotated and type(None) in args:
        return True if (Hyper in args or Fixed in args) and len(args) == 2 else None
    return False if hint in (Hyper, Fixed) else None


def may_hold(value: Any, hint: Any, single: bool) -> bool:
    """Whether a data field may hold this value, as far as its own kind says.

    A field of a single hyperparameter does not hold a collection, and it holds a value only if that can
    be called. A field of several hyperparameters holds a list, a tuple or an array.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and takes_schedules(hint) is not None:
        return isinstance(value, tuple | list) or bool(getattr(value, "shape", ()))
    is_union = origin in (typing.Union, types.UnionType)
    if single or (is_union and (Hyper in args or Fixed in args)):
        if isinstance(value, tuple | list | Mapping):
            return False
        return callable(value) or not is_value(type(value))
    return True


def takes_schedules(hint: Any) -> bool | None:
    """For a field of one or several hyperparameters: whether they may be schedules.

    The result is None for a field that does not hold hyperparameters.
    """
    if hint in (Hyper, Fixed):
        return hint == Hyper
    inside = () if typing.get_origin(hint) is Annotated else typing.get_args(hint)
    known = [x for x in map(takes_schedules, inside) if x is not None]
    return any(known) if known else None


def convert_data(value: Any, owner: Any, name: str) -> Any:
    """The content of the data field `name` of `owner`, as it is stored.

    Raises:
        TypeError: if `value` is not a number, an array, a schedule, a `Value` or a collection of these.
    """
    match value:
        case bool() | np.bool_():
            pass
        case None | static() | jax.Array() | Number() | Tuned():
            return value
        case np.ndarray() if value.dtype.name in DTYPES and not isinstance(
            value, np.ma.MaskedArray
        ):
            return np.asarray(value, value.dtype.newbyteorder("="))
        case np.generic() if value.dtype.name in DTYPES and not np.iscomplexobj(value):
            return float(value)
        case _ if is_value(type(value)):
            return value
        case numbers.Real():
            try:
                return float(value)
            except OverflowError:
                raise ValueError(
                    f"`{type(owner).__name__}({name}=...)` is too large for a floating number. Pass a "
                    "number below 1e308."
                ) from None
        case Mapping():
            return frozendict({key: convert_data(v, owner, name) for key, v in value.items()})
        case tuple() | list():
            return tuple(convert_data(v, owner, name) for v in value)
        case Callable() if not jax.tree_util.all_leaves((value,)):
            return value  # a callable that is a pytree: its leaves are data
        case Callable():
            return static(value)
        case _:
            pass
    raise not_a_number(value, owner, name)


def not_a_number(value: Any, owner: Any, name: str) -> TypeError:
    """The error for a value that is not a number, an array or a schedule."""
    return TypeError(
        f"`{type(owner).__name__}({name}=...)` must be a number, an array or a schedule "
        f"(a function of the step), not {described(value)}."
    )


def not_held(value: Any, owner: Any, name: str) -> TypeError:
    """The error for a value that a data field may not hold, see `may_hold`."""
    if typing.get_origin(owner._hints[name]) is not tuple:
        return not_a_number(value, owner, name)
    return TypeError(
        f"`{type(owner).__name__}({name}=...)` must be a tuple of numbers, not {described(value)}."
    )


def convert_static(value: Any, owner: Any, name: str) -> Any:
    """The content of the static field `name` of `owner`, as it is stored.

    Raises:
        TypeError: if the field holds a dtype that is neither floating nor complex, or a traced value.
    """
    match value:
        case None:
            return None
        case Tracer():
            raise TypeError(
                f"`{type(owner).__name__}({name}=...)` decides how the step is compiled, so it must be "
                f"known then. Here it is traced: it is {described(value)}. Make it a static argument "
                "of `jax.jit` (`static_argnames`), or make the value outside of the traced function."
            )
        case _ if name.endswith("dtype"):
            return dtype_name(value, f"{type(owner).__name__}({name}=...)")
        case _ if name == "axis_name" and not are_names(value):
            raise TypeError(
                f"`{type(owner).__name__}(axis_name=...)` must be the name of a mesh axis, a tuple of "
                f"such names, or None, not {described(value)}."
            )
        case np.generic():
            return value.item()
        case Mapping():
            return frozendict({key: convert_static(v, owner, "") for key, v in value.items()})
        case list() | tuple() if type(value) in (list, tuple):
            return tuple(convert_static(v, owner, "") for v in value)
        case _:
            return value


def dtype_name(value: Any, where: str) -> str:
    """The name of a dtype; `where` is the argument in messages, such as `"adam(mu_dtype=...)"`.

    Raises:
        TypeError: if `value` is not a floating or a complex dtype.
    """
    try:
        is_array = isinstance(value, np.generic | np.ndarray | jax.Array)
        dtype = None if is_array else jnp.dtype(value)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        given = repr(dtype.name) if dtype else described(value)
        raise TypeError(
            f"`{where}` must be a floating or a complex dtype, such as 'float32', not {given}."
        )
    return dtype.name


def are_names(x: Any) -> bool:
    """Whether this is the name of a mesh axis, or a tuple of such names."""
    return isinstance(x, str) or (type(x) in (tuple, list) and all(map(are_names, x)))


def leaf_key(leaf: Any) -> Hashable:
    """A key that is equal for equal leaves: a number, or the shape, dtype and bytes of an array.

    All NaNs are equal, and 0.0 differs from -0.0.
    """
    if isinstance(leaf, np.ndarray | jax.Array) and not isinstance(leaf, Tracer):
        return array_key(leaf)
    if isinstance(leaf, float) and (leaf == 0 or leaf != leaf):
        return repr(float(leaf))
    return leaf if isinstance(leaf, float | int | str) else id(leaf)

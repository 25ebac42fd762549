"""Values: frozen dataclasses that are pytrees, and print as the code that makes them.

A field is either *data* or *static*, and its annotation alone decides which. A field is data, that is,
a child of the pytree, if its annotation names `Hyper`, `jax.Array` or a class of values (also inside
`|`, `tuple` or `Mapping`). Every other field is static, that is, part of the pytree's structure, and
must be hashable: flags, names, dtypes, and counts that decide shapes or loops.

A subclass declares its fields like a dataclass, without the decorator:

    class ema_weight(Value):
        decay: Hyper = 0.9          # data: a leaf of the pytree
        nesterov: bool = False      # static: part of its structure
        limits = {"decay": "[0, 1)"}
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Self

import jax

from gradtx._core.arguments import explained
from gradtx._core.fields import (
    Fixed as Fixed,
    Hyper as Hyper,
    convert_data,
    convert_static,
    holds_data,
    leaf_key,
    may_hold,
    mentions as mentions,
    not_held,
    number_may_be_none,
    takes_schedules,
)
from gradtx._core.hyperparameters import check_hyperparameter
from gradtx._core.limits import outside
from gradtx._core.printed import name_of, outermost
from gradtx._core.static import show
from gradtx._core.static_kinds import check_kind
from gradtx._core.tuned import Tuned

# Attributes of tuples and methods of `Transform`, which a field of the same name would hide.
_RESERVED = frozenset(
    {"count", "index", "_replace", "_fields", "_make", "_asdict", "init", "update", "lower", "at"}
)


@typing.dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
class Value:
    """A frozen dataclass that is a pytree of its data fields.

    A subclass declares its fields by annotations, without a decorator. It may define `limits`, which
    maps the name of a field to the interval that a number in this field must lie in, as a string such
    as `"[0, 1)"`. It may override `validate` for checks that an interval cannot express.

    When a value is made, numbers in data fields become `float`, NumPy scalars become Python scalars,
    dtypes become their names, and mappings become immutable. `limits` applies to numbers and to the
    entries of arrays, as far as they are known: not to tracers, nor to arrays on an accelerator. A
    number with limits has at least the precision of float32, since 0.999 in bfloat16 is 1.

    Raises:
        TypeError: if a data field holds something that is not a number, an array, a schedule or
            another value.
        ValueError: if a number or an entry of an array lies outside its interval in `limits`, or if an
            array with limits has a dtype that is narrower than float32.
    """

    limits: ClassVar[Mapping[str, str]] = {}
    # For arguments that Optax has and this class does not: what to write instead. The key "" is for a
    # call with too many arguments by position.
    instead: ClassVar[Mapping[str, str]] = {}
    # The names of the data fields and of the static fields, and the annotations of all fields.
    _data: ClassVar[tuple[str, ...]] = ()
    _static: ClassVar[tuple[str, ...]] = ()
    _hints: ClassVar[Mapping[str, Any]] = {}
    # Makes an instance whose fields are not set yet. `Transform`, which is a tuple, replaces it.
    _empty: ClassVar[Callable[..., Any]] = object.__new__
    # For each data field that holds a single number: whether the field may also hold None.
    _numbers: ClassVar[Mapping[str, bool]] = {}
    # For each data field that holds one or several hyperparameters: whether they may be schedules.
    _schedules: ClassVar[Mapping[str, bool]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = inspect.get_annotations(cls, eval_str=True)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        cls.__setattr__ = _refuse_to_change
        if "__repr__" in vars(cls):
            cls.__repr__ = outermost(cls.__repr__)
        for name in ("__init__", "init", "update"):  # the methods that users call
            if name in vars(cls):
                setattr(cls, name, explained(vars(cls)[name]))
        names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
        if taken := _RESERVED.intersection(names):
            raise TypeError(f"`{cls.__name__}` cannot have a field named {sorted(taken)[0]!r}.")
        inherited = {n: h for base in reversed(cls.__mro__[1:]) for n, h in _hints_of(base)}
        cls._hints = {n: own[n] if n in own else inherited.get(n) for n in names}
        for name in names:
            if name in own and mentions(own[name], float):
                raise TypeError(
                    f"`{cls.__name__}.{name}` is annotated {own[name]!r}. A field with this annotation "
                    "is part of the pytree's structure, so that every new number would be compiled "
                    "again. Annotate the field with `gradtx.Hyper`."
                )
        is_data = {
            name: holds_data(own[name]) if name in own else name in cls._data for name in names
        }
        cls._data = tuple(name for name in names if is_data[name])
        cls._static = tuple(name for name in names if not is_data[name])
        single = {name: number_may_be_none(hint) for name, hint in own.items() if is_data.get(name)}
        cls._numbers = {k: v for k, v in {**cls._numbers, **single}.items() if v is not None}
        several = {name: takes_schedules(own[name]) for name in own if is_data.get(name)}
        known = {**cls._schedules, **several}
        cls._schedules = {k: v for k, v in known.items() if v is not None and k in cls._data}
        data, static = cls._data, cls._static
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda self: (
                [(jax.tree_util.GetAttrKey(n), getattr(self, n)) for n in data],
                self._aux(),
            ),
            cls._unflatten,
            # JAX flattens values more often than it calls any other method, so this is kept fast: it
            # calls no other Python function.
            lambda self: (
                tuple(map(self.__dict__.__getitem__, data)),
                tuple(map(self.__dict__.__getitem__, static)),
            ),
        )

    def __post_init__(self) -> None:
        for name in self._data:
            value = getattr(self, name)
            nothing = value is None and not self._numbers.get(name, True)
            if nothing or not may_hold(value, self._hints[name], name in self._numbers):
                raise not_held(value, self, name)
            value = convert_data(value, self, name)
            if name in self._schedules:
                where = f"{type(self).__name__}({name}=...)"
                accepted, bounded = self._schedules[name], name in self.limits
                check_hyperparameter(value, where, schedules=accepted, bounded=bounded)
            object.__setattr__(self, name, value)
        for name in self._static:
            value = convert_static(getattr(self, name), self, name)
            check_kind(value, self._hints[name], type(self).__name__, name)
            object.__setattr__(self, name, value)
        for name, interval in self.limits.items():
            value = getattr(self, name)
            if isinstance(value, Tuned):
                object.__setattr__(self, name, value.within(interval))
            elif problem := outside(value, interval):
                raise ValueError(f"`{type(self).__name__}({name}={show(value)})` {problem}.")
        self.validate()

    def validate(self) -> None:
        """Check what an interval in `limits` cannot express.

        The library calls this method when a value is made. The default checks nothing. A subclass that
        overrides it raises `ValueError` if its fields do not fit together. A field may hold an array,
        a tracer or a schedule, so ask `isinstance(self.decay, float)` before you compare.
        """

    def _aux(self) -> tuple[Hashable, ...]:
        return tuple(map(self.__dict__.__getitem__, self._static))

    @classmethod
    def _unflatten(cls, aux: Any, children: Any) -> Self:
        # Neither `__init__` nor its checks run here, because JAX also builds values that hold
        # placeholders, batch axes or None where the numbers were.
        self = cls._empty(cls)
        self.__dict__.update(zip(cls._data, children, strict=True))
        self.__dict__.update(zip(cls._static, aux, strict=True))
        return self

    def _with(self, **changes: Any) -> Self:
        """A copy with some fields replaced, without validation: for values made inside a step."""
        new = self._empty(type(self))
        fields = self.__dict__
        for name in self._data + self._static:
            new.__dict__[name] = changes[name] if name in changes else fields[name]
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        # Without this method, pickle would call NamedTuple's `__getnewargs__`, which iterates over the
        # value.
        fields = {name: getattr(self, name) for name in self._data + self._static}
        return _rebuild, (type(self), fields)

    def _key(self) -> Hashable:
        leaves, structure = jax.tree.flatten(self)
        return structure, tuple(map(leaf_key, leaves))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self._key() == other._key())  # pyright: ignore

    def __ne__(self, other: object) -> bool:
        return not self == other  # without this method, `Transform` would inherit `tuple.__ne__`

    def __hash__(self) -> int:
        return hash(self._key())

    @outermost
    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING and not field.kw_only:
                shown.append(self._shown(field.name, value))
            elif not is_default(value, field.default):
                shown.append(f"{field.name}={self._shown(field.name, value)}")
        return f"{name_of(type(self))}({', '.join(shown)})"

    def _shown(self, name: str, value: Any) -> str:
        """The text of one field, as `repr` prints it."""
        return show(value)


def _hints_of(base: type) -> Any:
    """The annotated fields that a base class adds, with their annotations."""
    return base._hints.items() if issubclass(base, Value) else ()  # pyright: ignore


def _refuse_to_change(self: Value, name: str, value: Any) -> typing.NoReturn:
    raise dataclasses.FrozenInstanceError(
        f"`{type(self).__name__}` is a value and cannot be changed. "
        f"`gradtx.replace(tx, {name}=...)` returns a copy in which `{name}` is replaced."
    )


def _rebuild(cls: type[Value], fields: dict[str, Any]) -> Value:
    return cls._unflatten([fields[n] for n in cls._static], [fields[n] for n in cls._data])


def is_default(value: Any, default: Any) -> bool:
    """Whether the value of a field is the field's default."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        default = float(default) if isinstance(value, float) else default
    if isinstance(value, float) and value == 0:
        return str(value) == str(default)  # -0.0 is not 0.0
    return type(value) is type(default) and not hasattr(value, "shape") and bool(value == default)

"""Values: frozen dataclasses that are pytrees, and print as the code that makes them.

A field is *data* or *static*, and the class alone decides which: a field annotated `Hyper`, an array,
or another value (also inside `|`, `tuple` or `Mapping`) is data, that is, a child of the pytree;
everything else (flags, names, dtypes, counts that decide shapes or loops) is static, that is, part of
the tree's structure, and must hash.

Subclassing is declaring:

    class ema_weight(Value):
        decay: Hyper = 0.9          # a leaf
        nesterov: bool = False      # structure
        limits = {"decay": "[0, 1)"}
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Self

import jax

from gradtx._core.fields import (
    Hyper as Hyper,
    holds_data,
    inside,
    leaf_key,
    mentions as mentions,
    not_a_number,
    number_of,
    settle_data,
    settle_static,
)
from gradtx._core.static import show

# `tuple` and `dataclass` machinery that a field of these names would shadow.
_RESERVED = frozenset(
    {"count", "index", "_replace", "_fields", "_make", "_asdict", "init", "update", "lower", "at"}
)


@typing.dataclass_transform(frozen_default=True)
class Value:
    """A frozen dataclass that is a pytree of its data fields.

    Subclasses declare fields; `limits` maps a field to the interval (as a string, `"[0, 1)"`) that a
    number there must lie in, and `validate` may check more. Numbers are stored as `float`, NumPy
    scalars as Python ones, dtypes by name, mappings frozen. Only numbers are validated: arrays and
    tracers have no value to look at.
    """

    limits: ClassVar[Mapping[str, str]] = {}
    _data: ClassVar[tuple[str, ...]] = ()
    _static: ClassVar[tuple[str, ...]] = ()
    _hints: ClassVar[Mapping[str, Any]] = {}
    # Makes an instance without fields.
    _empty: ClassVar[Callable[..., Any]] = object.__new__
    # Of the data fields, those that hold one number each: whether that may be None.
    _numbers: ClassVar[Mapping[str, bool]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = inspect.get_annotations(cls, eval_str=True)
        dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
        cls.__setattr__ = _refuse_to_change
        names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
        if taken := _RESERVED.intersection(names):
            raise TypeError(f"`{cls.__name__}` cannot have a field named {sorted(taken)[0]!r}.")
        cls._hints = {n: own[n] if n in own else cls._hints.get(n) for n in names}
        for name in names:
            if name in own and mentions(own[name], float):
                raise TypeError(
                    f"`{cls.__name__}.{name}` is annotated {own[name]!r}: such a field would be part of "
                    "the structure, and every new number would compile again. Annotate it "
                    "`gradtx.Hyper`."
                )
        is_data = {
            name: holds_data(own[name]) if name in own else name in cls._data for name in names
        }
        cls._data = tuple(name for name in names if is_data[name])
        cls._static = tuple(name for name in names if not is_data[name])
        single = {name: number_of(hint) for name, hint in own.items() if is_data.get(name)}
        cls._numbers = {k: v for k, v in {**cls._numbers, **single}.items() if v is not None}
        data, static = cls._data, cls._static
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda self: (
                [(jax.tree_util.GetAttrKey(n), getattr(self, n)) for n in data],
                self._aux(),
            ),
            cls._unflatten,
            # Called more often than anything else, so that it makes no other call.
            lambda self: (
                tuple(map(self.__dict__.__getitem__, data)),
                tuple(map(self.__dict__.__getitem__, static)),
            ),
        )

    def __post_init__(self) -> None:
        for name in self._data:
            value = getattr(self, name)
            nothing = value is None and not self._numbers.get(name, True)
            if nothing or (name in self._numbers and isinstance(value, tuple | list | Mapping)):
                raise not_a_number(value, self, name)
            object.__setattr__(self, name, settle_data(value, self, name))
        for name in self._static:
            object.__setattr__(self, name, settle_static(getattr(self, name), self, name))
        for name, interval in self.limits.items():
            value = getattr(self, name)
            if isinstance(value, float | int) and not inside(value, interval):
                raise ValueError(
                    f"`{type(self).__name__}({name}={value!r})` must lie in {interval}."
                )
        self.validate()

    def validate(self) -> None:
        """Raise `ValueError` if the fields do not go together. Overridden by subclasses."""

    def _aux(self) -> tuple[Hashable, ...]:
        return tuple(map(self.__dict__.__getitem__, self._static))

    @classmethod
    def _unflatten(cls, aux: Any, children: Any) -> Self:
        # Does not run `__init__`: JAX puts placeholders, batch axes and None where numbers were.
        self = cls._empty(cls)
        self.__dict__.update(zip(cls._data, children, strict=True))
        self.__dict__.update(zip(cls._static, aux, strict=True))
        return self

    def _with(self, **changes: Any) -> Self:
        """A copy with other fields, not validated: for values made inside a step."""
        new = self._empty(type(self))
        fields = self.__dict__
        for name in self._data + self._static:
            new.__dict__[name] = changes[name] if name in changes else fields[name]
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        # Without it, pickle would call NamedTuple's `__getnewargs__`, which iterates the value.
        fields = {name: getattr(self, name) for name in self._data + self._static}
        return _rebuild, (type(self), fields)

    def _key(self) -> Hashable:
        leaves, structure = jax.tree.flatten(self)
        return structure, tuple(map(leaf_key, leaves))

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self._key() == other._key())  # pyright: ignore

    def __ne__(self, other: object) -> bool:
        return not self == other  # tuple has its own `__ne__`, which must not leak into Transform

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, field.name)
            if field.default is dataclasses.MISSING and not field.kw_only:
                shown.append(show(value))
            elif not same(value, field.default):
                shown.append(f"{field.name}={show(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _refuse_to_change(self: Value, name: str, value: Any) -> typing.NoReturn:
    raise dataclasses.FrozenInstanceError(
        f"`{type(self).__name__}` is a value and does not change. `gradtx.replace(tx, {name}=...)` "
        "makes another one."
    )


def _rebuild(cls: type[Value], fields: dict[str, Any]) -> Value:
    return cls._unflatten([fields[n] for n in cls._static], [fields[n] for n in cls._data])


def same(value: Any, default: Any) -> bool:
    """Whether a field has its default."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        default = float(default) if isinstance(value, float) else default
    return type(value) is type(default) and not hasattr(value, "shape") and bool(value == default)

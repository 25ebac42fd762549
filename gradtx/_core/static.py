"""What a static field may hold although it does not hash or has no leaves: functions and mappings."""

import inspect
import sys
import typing
from typing import Any

import jax
import numpy as np


class static:
    """A callable or other object without leaves, so that it can stand where a pytree is expected.

    A bare function cannot cross `jax.jit`; as structure it can. Compares by the wrapped object's own
    equality (identity, for a function) and prints as its name. Schedules and functions among the
    fields of a value are wrapped in it unasked.

    >>> import gradtx, jax
    >>> jax.tree.leaves(gradtx.static(max)), gradtx.static(max)(2, 3)
    ([], 3)
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.value(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, static) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return show(self.value)


jax.tree_util.register_pytree_node(static, lambda s: ((), s.value), lambda value, _: static(value))


class frozendict(dict[Any, Any]):
    """A mapping that hashes, for fields: made once at construction and not changed after."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))

    def _refuse(self, *args: Any, **kwargs: Any) -> typing.NoReturn:
        raise TypeError(
            "This mapping is a field of a value and cannot change; use `gradtx.replace`."
        )

    __setitem__ = __delitem__ = update = pop = popitem = clear = setdefault = _refuse  # pyright: ignore

    def __reduce__(self) -> tuple[Any, ...]:
        return frozendict, (dict(self),)


jax.tree_util.register_pytree_with_keys(
    frozendict,
    lambda d: ([(jax.tree_util.DictKey(k), d[k]) for k in sorted(d)], tuple(sorted(d))),
    lambda keys, children: frozendict(zip(keys, children, strict=True)),
)


def show(value: Any) -> str:
    """`repr`, except that a function prints as its name, and an array with all its digits."""
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__name__
    with np.printoptions(floatmode="unique", threshold=sys.maxsize):
        return repr(value)

"""Wrappers for functions and mappings, so that fields of values can hold them.

`static` makes a function part of a pytree's structure, and `frozendict` is a mapping that is hashable.
"""

import typing
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from gradtx._core.arguments import explained
from gradtx._core.printed import DTYPES, array_text, is_named, name_of


class static:
    """Wrap a function or another hashable object as a pytree without leaves.

    A bare function cannot be an argument of a jitted function, because it is not a valid JAX type. A
    `static` can, because it belongs to the structure of the pytree. To call a `static` is to call the
    function. Two `static`s are equal if the wrapped objects are equal. A `static` prints as the name of
    the function. Functions in the fields of a value are wrapped automatically.

    Args:
        value: the function or object, which must be hashable.

    >>> import gradtx, jax
    >>> jax.tree.leaves(gradtx.static(max)), gradtx.static(max)(2, 3)
    ([], 3)
    """

    @explained
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
    """A dictionary that is hashable and cannot be changed; a value keeps its mappings in this form."""

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return hash(frozenset(self.items()))

    def _refuse(self, *args: Any, **kwargs: Any) -> typing.NoReturn:
        raise TypeError(
            "This mapping is a field of a value and cannot change. `gradtx.replace` makes a copy of the "
            "value with another mapping."
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
    """`repr`, except that a function or class prints as its name, and an array with all its digits."""
    if is_named(value):
        return name_of(value)
    is_array = isinstance(value, np.ndarray | jax.Array) and not isinstance(value, Tracer)
    if is_array and value.dtype.name in DTYPES:
        try:
            return array_text(value)
        except (TypeError, ValueError, RuntimeError):
            pass  # the array was donated, or it lies in other processes
    return repr(value)

"""What a static field may hold, as its annotation says: flags, words, counts, patterns, functions.

Without this check, a flag that was read as the word "false" would count as True, and a list in the place
of a word would be reported by whatever code looks the word up.
"""

import inspect
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from gradtx._core.authors import described

_PLAIN: dict[Any, tuple[str, str]] = {
    bool: ("True or False", "bools"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    type(None): ("None", "None"),
    Any: ("a value", "values"),
}


# JAX computes with signed counts of 32 bits, and makes random keys from 32 bits.
_BITS_OF_COUNTS = 31
_BITS_OF_SEEDS = {"key": 32, "random_seed": 32, "seed": 64}


def check_kind(value: Any, hint: Any, owner: str, name: str) -> None:
    """Refuse a value that does not fit the annotation of its static field.

    Args:
        value: the content of the field, with tuples in the place of lists.
        hint: the annotation. An annotation that is not built of bools, whole numbers, strings, words,
            None, tuples, mappings, functions and protocols, such as a class of the user, accepts every
            value.
        owner: the name of the class that has the field.
        name: the name of the field.

    Raises:
        TypeError: if `value` has another type than the annotation says.
        ValueError: if `value` is a string, and not one of the words that the annotation lists; or if it
            is a whole number too large for 32 bits.
    """
    if _fits(value, hint):
        bits = _BITS_OF_SEEDS.get(name, _BITS_OF_COUNTS)
        if _exceeds(value, hint, 2**bits):
            raise ValueError(
                f"`{owner}({name}=...)` must be less than 2**{bits}, since JAX computes with 32 bits."
            )
        return
    kind = ValueError if isinstance(value, str) and not _fits("", hint) else TypeError
    shown = described(value)
    if len(shown) <= 40 and shown == repr(value):
        raise kind(f"`{owner}({name}={shown})` must be {_wanted(hint)}.")
    raise kind(f"`{owner}({name}=...)` must be {_wanted(hint)}, not {shown}.")


def _fits(value: Any, hint: Any) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if hint is str:
        return isinstance(value, str)
    if hint is type(None):
        return value is None
    if hint is Hashable:
        return _is_hashable(value)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return any(type(value) is type(word) and value == word for word in args)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in args)
    if origin is tuple and isinstance(value, tuple):
        parts = args[:1] * len(value) if Ellipsis in args else args
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if origin is Mapping and isinstance(value, Mapping):
        return all(_fits(k, args[0]) and _fits(x, args[1]) for k, x in value.items())
    if origin is Callable:
        return callable(value) and not isinstance(value, type)
    if origin in (Sequence, Iterable):
        return hasattr(value, "__iter__") and not isinstance(value, str | bytes | type)
    if methods := _methods(hint):
        return all(inspect.isroutine(getattr(value, m, None)) for m in methods) and not isinstance(
            value, type
        )
    return origin not in (tuple, Mapping)


def _exceeds(value: Any, hint: Any, limit: int) -> bool:
    """Whether a whole number in `value`, where the annotation asks for one, is not below a limit."""
    if hint is int:
        return isinstance(value, int) and abs(value) >= limit
    if typing.get_origin(hint) is tuple and isinstance(value, tuple):
        return any(_exceeds(x, typing.get_args(hint)[0], limit) for x in value)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_exceeds(value, part, limit) for part in typing.get_args(hint))
    return False


def _methods(hint: Any) -> list[str]:
    """The methods that a protocol asks for; none for any other annotation."""
    if not getattr(hint, "_is_protocol", False):
        return []
    return [name for name in vars(hint) if inspect.isfunction(vars(hint)[name]) and name[0] != "_"]


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _wanted(hint: Any) -> str:
    """What fits the annotation, in words: "'ema' or 'heavy_ball'"."""
    words = _alternatives(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members: tuple[Any, ...] = typing.get_args(hint)
        words = [word for member in members for word in _alternatives(member)]
        words = ["True", "False", *words[1:]] if members[0] is bool else words
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _alternatives(hint: Any) -> list[str]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return [_PLAIN[hint][0]]
    if origin is typing.Literal:
        return [*map(repr, args)]
    if origin in (Sequence, Iterable):
        return [f"a list of {_several(args[0])}"]
    if origin is tuple:
        return [f"a tuple of {_several(args[0])}"]
    if origin is Mapping:
        return [f"a mapping from {_several(args[0])} to {_several(args[1])}"]
    if origin is Callable:
        return ["a function"]
    if _methods(hint):
        text = (hint.__doc__ or f"A `{hint.__name__}`.").partition("\n")[0]
        return [text[0].lower() + text[1:].removesuffix(".")]
    return ["hashable" if hint is Hashable else f"`{getattr(hint, '__name__', hint)}`"]


def _several(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_several, typing.get_args(hint)))
    return _PLAIN[hint][1] if hint in _PLAIN else _wanted(hint)

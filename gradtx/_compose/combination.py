"""Which branches a combination of `fanout` can join."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import optax

from gradtx._core.authors import described
from gradtx._core.static import show
from gradtx._core.values import Value

# The combinations that are not defined for any number of branches.
_BRANCHES = {"subtract": 2, "divide": 2, "arctan2": 2}


def check_combination(combine: Any, branches: Any, known: Iterable[str]) -> None:
    """Refuse what `fanout` cannot combine.

    Args:
        combine: the word or the function that combines.
        branches: what is combined.
        known: the words.

    Raises:
        TypeError: if `branches` is not a list or has no transformation, or if `combine` is not a word
            and not a function of as many arguments as there are branches.
        ValueError: if the word is unknown, or if it does not join this number of branches.
    """
    if not isinstance(branches, Sequence):
        raise TypeError(f"`fanout(branches=...)` must be a list, not {described(branches)}.")
    words = sorted(known)
    if isinstance(combine, str):
        if combine not in words:
            raise ValueError(f"`fanout(combine={combine!r})` must be a function or one of {words}.")
        wanted = _BRANCHES.get(combine, len(branches))
        if len(branches) != wanted:
            raise ValueError(
                f"`fanout({combine!r}, ...)` joins {wanted} branches, and {len(branches)} were given."
            )
    elif not callable(combine) or isinstance(combine, Value | type):
        raise TypeError(
            f"`fanout(combine=...)` must be a function or one of {words}, not {described(combine)}."
        )
    if not any(isinstance(b, optax.GradientTransformation) for b in branches):
        given = ", ".join(map(described, branches))
        raise TypeError(
            f"`fanout({show(combine)}, ...)` needs at least one transformation among its branches, "
            f"which are {given or 'none'}."
        )
    if not isinstance(combine, str):
        _check_arity(combine, len(branches))


def _check_arity(combine: Any, count: int) -> None:
    try:
        signature = inspect.signature(combine)
    except (TypeError, ValueError):  # a function that has no signature in Python
        return
    try:
        signature.bind(*[None] * count)
    except TypeError:
        raise TypeError(
            f"`fanout(combine=...)` must be a function of as many arrays as there are branches, and "
            f"there are {count}; `{show(combine)}` takes `{signature}`."
        ) from None

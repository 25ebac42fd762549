"""How a sweep calls the function that trains: its arguments, its key, and the score of its result."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described


def seed_list(seeds: Any) -> tuple[int, ...] | None:
    """The seeds as a tuple; a number means as many seeds, from 0 on."""
    if seeds is None:
        return None
    single = isinstance(seeds, int | np.integer)
    given = range(int(seeds)) if single else list(seeds)
    # An array without axes has `__index__`, too.
    if not all(hasattr(x, "__index__") and not getattr(x, "ndim", 0) for x in given):
        raise TypeError(
            "`sweep(seeds=...)` must be a number of seeds or a list of whole numbers, not "
            f"{described(seeds)}."
        )
    named = tuple(map(int, given))
    if not named:
        raise ValueError(f"`sweep(seeds={described(seeds)})` must be at least one seed.")
    return named


def check_call(
    train: Any,
    args: tuple[Any, ...],
    seeds: tuple[int, ...] | None,
    name: str = "train",
    first: str = "tx",
) -> None:
    """Raise a sentence if `train` cannot be called as `sweep` calls it.

    `name` and `first` are the names of the function and of its first argument in messages.
    """
    if not callable(train):
        raise TypeError(
            f"`sweep(train, txs)` needs a function to train with, not {described(train)}."
        )
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # a function that has no signature in Python
        return
    keyword = {} if seeds is None else {"key": None}
    try:
        signature.bind(None, *args, **keyword)
    except TypeError as error:
        written = ", ".join([first, *["..."] * bool(args), *["key=key"] * bool(keyword)])
        hint = " Pass `seeds=1` to give it a key." if "'key'" in str(error) and not keyword else ""
        raise TypeError(
            f"`sweep` calls `{name}({written})`, which does not fit its signature `{signature}`: "
            f"{error}.{hint}"
        ) from None


def score_function(score: Any) -> Callable[[Any], Any]:
    """The function that takes the score from the result of `train`."""
    if callable(score):
        check_call(score, (), None, "score", "result")

    def score_of(result: Any) -> Any:
        value: Any
        if isinstance(score, str):
            try:
                value = result[score] if isinstance(result, Mapping) else getattr(result, score)
            except (KeyError, AttributeError):
                raise ValueError(
                    f"`sweep(score={score!r})` names an entry that the result of `train` does not have; "
                    f"the result is {_kind(result)}."
                ) from None
        else:
            value = result if score is None else score(result)
        number = isinstance(value, int | float) or hasattr(value, "dtype")
        if not number or jnp.shape(value) or jnp.issubdtype(jnp.asarray(value).dtype, complex):
            raise TypeError(
                f"The score of a training must be one real number, and it is {_kind(value)}. Say which "
                "number is to be small: `sweep(..., score=lambda result: ...)`."
            )
        return value

    return score_of


def _kind(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"an array of dtype {value.dtype} and shape {jnp.shape(value)}"
    return f"a value of the type `{type(value).__name__}`"


def split_arrays(tree: Any, *others: type) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The arrays in a tree, and a function that puts other arrays in their places.

    Leaves of the types `others` count as arrays, too. All other leaves, such as functions, stay.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_array = [isinstance(x, (jax.Array, np.ndarray, np.generic, *others)) for x in leaves]
    # The function must not hold the arrays, since these may be tracers.
    kept = [None if yes else x for x, yes in zip(leaves, is_array, strict=True)]

    def rebuild(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        both = zip(kept, is_array, strict=True)
        return structure.unflatten([next(rest) if yes else x for x, yes in both])

    return [x for x, yes in zip(leaves, is_array, strict=True) if yes], rebuild

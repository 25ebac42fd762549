"""Sentences for wrong arguments of public functions, as `static_kinds.py` has them for fields."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gradtx._core.authors import described
from gradtx._core.fields import dtype_name
from gradtx._core.static_kinds import check_kind
from gradtx._core.trees import flatten

_TREES = {
    "params": "the tree of parameters",
    "state": "a state that `init` or `update` returned",
}


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments that cannot be what the annotations of a public function say.

    A public function that is not called in every step begins with `check_arguments(name, locals())`.

    Args:
        function: the function.
        given: the arguments that are to be checked, by name.

    Raises:
        TypeError: if an argument has another type than its annotation says, or if `params` or `state`
            is a single object and not a tree.
        ValueError: if a string is not one of the words that its annotation lists.
    """
    name = function.__name__
    for argument, hint in _hints(function).items():
        value = given.get(argument)
        if argument not in given or (value is None and hint is Any):
            continue
        if argument in _TREES:
            if not hasattr(value, "shape") and jax.tree_util.all_leaves((value,)):
                flatten(value)  # this has a remedy for a generator
                raise TypeError(
                    f"`{name}({argument}=...)` must be {_TREES[argument]}, not {described(value)}."
                )
        elif argument.endswith("dtype"):
            if value is not None:
                dtype_name(value, f"{name}({argument}=...)")
        else:
            check_kind(
                value.item() if isinstance(value, np.generic) else value, hint, name, argument
            )


@functools.lru_cache(maxsize=256)
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of every argument that has a name of its own."""
    hints = typing.get_type_hints(function)
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    named = inspect.signature(function).parameters.values()
    return {p.name: hints[p.name] for p in named if p.kind not in several}

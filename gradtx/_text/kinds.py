"""What a part of a configuration is, and what an annotation takes."""

import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from gradtx._core.fields import holds_data, mentions
from gradtx._core.transform import Transform
from gradtx._core.values import Value
from gradtx._text.vocabulary import Called


def is_mapping(x: Any) -> bool:
    """Whether `x` is a mapping, or looks like one, as a `ConfigDict` does."""
    return isinstance(x, Mapping) or (
        hasattr(x, "keys") and hasattr(x, "__getitem__") and not isinstance(x, type)
    )


def is_list(x: Any) -> bool:
    """Whether `x` is a list, a tuple, or another sequence, as OmegaConf has."""
    return isinstance(x, Sequence) and not isinstance(x, str | bytes | Value)


def is_call(x: Any, names: Mapping[str, Any]) -> bool:
    """Whether a mapping is a call although it stands where a mapping of labels can stand.

    Labels are given to parameters, and a parameter is more often called "scale" than "by_rank".
    """
    keys = list(x.keys())
    if len(keys) != 1 or not isinstance(keys[0], str):
        return False
    meaning = names.get(keys[0])
    if keys[0] == "parse":
        return isinstance(x["parse"], str)
    if not isinstance(meaning, Called):
        return False
    made = meaning.make
    return not (isinstance(made, type) and issubclass(made, Transform))


def union_members(hint: Any) -> tuple[Any, ...]:
    """The types in a union, or the only type."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def takes_values(hint: Any) -> bool:
    """Whether an argument with this annotation takes numbers, schedules or transformations."""
    return hint is not None and (holds_data(hint) or mentions(hint, optax.GradientTransformation))

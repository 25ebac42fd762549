"""Patterns of paths: how they are searched, the message for one that matches nothing, and typical names.

In all patterns, upper and lower case are the same. The prefix `(?-i:...)` of regular expressions makes a
part of a pattern mind the case.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Sequence

# The names that Flax (NNX and Linen), Equinox, Haiku and torch give to the leaves that are not hidden
# matrices. A stacked or transposed leaf of these names can have any number of axes.
EMBEDDING = (
    r"embed|(^|[/_])emb(s|eddings?)?(/|$)|(^|/)(wte|wpe|tok(en)?s?|pos(ition)?s?|codebook)(/|$)"
    r"|(^|/)cls(_?token)?$"
)
HEAD = (
    r"(^|/)(\w*lm_?head|head|cls_?head|\w*logits\w*|unembed\w*|classifier|readout)(/|$)"
    r"|^(params/)?(output\w*|fc_out|proj_out)/"
)
VECTOR = (
    r"(^|/)(\w*norm(_?\d+|_\w)?|ln(\w?|_\w+)|bn_?\d*)(/|$)"
    r"|(^|[/_])(bias|scale|gain|offset|gamma|beta)$|(^|/)b$"
)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str, whole: bool) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/)(?:{pattern})(?:/|$)" if whole else pattern, re.IGNORECASE)


@functools.lru_cache(maxsize=4096)  # a rule asks several times for the same leaf
def found(pattern: str, path: str, whole: bool = False) -> bool:
    """Whether a pattern is found in a path.

    Args:
        pattern: a regular expression.
        path: the path of a leaf, such as `layers/0/kernel`.
        whole: whether the pattern must match whole parts of the path, from slash to slash.
    """
    return _compiled(pattern, whole).search(path) is not None


def has_pattern(pattern: str, paths: Iterable[str], whole: bool = False) -> bool:
    """Whether a pattern is found in one of the paths."""
    return any(found(pattern, path, whole) for path in paths)


def unmatched(owner: str, pattern: str, paths: Sequence[str], remedy: str) -> ValueError:
    """The error for a pattern that is found in none of the paths. It names similar paths.

    Args:
        owner: the name of the rule that has the pattern.
        pattern: the pattern.
        paths: the paths of all parameters.
        remedy: what to do if the pattern is right.
    """
    near = _similar(pattern, paths)
    few = near or [path or "." for path in paths[:3]]
    listed = ", ".join(f"`{path}`" for path in few) + ("" if near or len(paths) <= 3 else ", ...")
    kind = "Similar paths" if near else "The paths"
    return ValueError(
        f"The pattern {pattern!r} of `{owner}` is found in the path of none of the {len(paths)} "
        f"parameters. {kind}: {listed}. Correct the pattern, or {remedy}."
    )


def _similar(pattern: str, paths: Sequence[str], most: int = 3) -> list[str]:
    """Paths that contain something similar to a pattern, or to one of its alternatives."""
    similar: dict[str, None] = {}
    for part in pattern.split("|"):
        plain = re.sub(r"\\[a-zA-Z]|[^\w/.]", "", part).strip("/").lower()
        length = plain.count("/") + 1
        holders: dict[str, str] = {}  # a piece of as many parts as the pattern, and the first path
        for path in paths:
            names = path.lower().split("/")
            for i in range(len(names) - length + 1):
                holders.setdefault("/".join(names[i : i + length]), path)
        for piece in difflib.get_close_matches(plain, list(holders), most):
            similar.setdefault(holders[piece])
    return list(similar)[:most]

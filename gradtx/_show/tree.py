"""The parts of a transformation as a tree, with the numbers of each part and the size of its state."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gradtx._compose.fanout import fanout
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import foreign
from gradtx._core.terms import Visit
from gradtx._core.transform import Transform
from gradtx._show.curve import curve, is_schedule
from gradtx._show.text import brief, cut, differs, sparkline

# A line is at most this wide, so that it fits into 96 columns together with a size.
WIDTH = 84


class Row(NamedTuple):
    """A line of the drawing: its text, and how many bytes of state the part keeps, if that is known.

    A part with many numbers takes several lines, of which the first has the size.
    """

    text: str
    state_bytes: int | None


def rows(
    node: Any,
    visit: Visit | None,
    size: Callable[[Any], int],
    first: str = "",
    rest: str = "",
    name: str = "",
) -> Iterator[Row]:
    """The lines of `node` and of the parts inside it.

    Args:
        node: a transformation, or a number among the branches of a `fanout`.
        visit: the record of how `node` was lowered, or None without parameters.
        size: the function from a state to its size in bytes.
        first: what stands before the text of the first line.
        rest: what stands before the text of all other lines.
        name: the label of `node` in a `partition`.
    """
    below = _inside(node)
    within = rest + ("│   " if below else "    ")
    texts = _wrapped(first + name, within, *_parts_of(node))
    known = visit is not None and isinstance(node, Transform)
    yield Row(texts[0], size(visit.state) if known and visit is not None else None)
    yield from (Row(text, None) for text in texts[1:])
    visits = visit.inside if visit is not None else []
    for i, (name, inner) in enumerate(below):
        last = i == len(below) - 1
        yield from rows(
            inner,
            visits[i] if i < len(visits) else None,
            size,
            rest + ("└── " if last else "├── "),
            rest + ("    " if last else "│   "),
            name,
        )


def _inside(node: Any) -> list[tuple[str, Any]]:
    """The parts of `node` in the order in which they are lowered, each with its label, if it has one."""
    if isinstance(node, partition):
        return [(f"{label}: ", tx) for label, tx in node.transforms.items()]
    if isinstance(node, fanout):
        return [("", branch) for branch in node.branches]
    return [("", tx) for tx in node.children] if isinstance(node, Transform) else []


def _parts_of(node: Any) -> tuple[str, list[str], str]:
    """The name of a part, the texts of its fields, and a remark."""
    if not isinstance(node, Transform):
        return brief(node), [], ""
    if isinstance(node, foreign):  # its fields are functions, whose origin is their only name
        return "foreign", [node.origin], ""
    fields = [f"{name}={text}" for name, text in settings(node)]
    if isinstance(node, fanout):  # `combine` is its first argument
        fields = [field.removeprefix("combine=") for field in fields]
    return type(node).__name__, fields, "; ".join(_remarks(node))


def settings(tx: Transform) -> list[tuple[str, str]]:
    """The fields of `tx` that say what it does, and their texts.

    These are all numbers, defaults included, and what else differs from its default. A transformation
    that is not a recipe also shows its words, such as the name of a norm. A class may have a method
    `resolved`, which returns the numbers that act where the fields hold None.
    """
    resolved = tx.resolved() if hasattr(tx, "resolved") else {}  # pyright: ignore
    shown = []
    for field in dataclasses.fields(tx):  # pyright: ignore[reportArgumentType]
        name, value = field.name, getattr(tx, field.name)
        value = resolved.get(name, value)
        if _holds_transform(value) or (name in tx._transforms and value is None):
            continue
        if name in tx._data:
            if value is not None:
                number = callable(value) or hasattr(value, "shape") or isinstance(value, float)
                shown.append((name, brief(value) if number else cut(brief(value))))
            continue
        words = isinstance(value, str) and not isinstance(tx, Recipe)
        counts = isinstance(value, int) and not isinstance(value, bool)
        if words or counts or differs(value, field.default):
            shown.append((name, cut(brief(value))))
    return shown


def _holds_transform(value: Any) -> bool:
    inside = (
        value.values() if isinstance(value, dict) else value if type(value) is tuple else [value]
    )
    return any(isinstance(x, Transform) for x in inside)


def _remarks(tx: Transform) -> Iterator[str]:
    """What `tx` says about itself in its method `remark`, and the curves of its schedules."""
    if isinstance(tx, Recipe):
        return  # the parts below it say so
    try:
        remark = tx.remark() if hasattr(tx, "remark") else ""  # pyright: ignore
    except Exception:  # a schedule of a user may raise anything, and numbers may be traced
        remark = ""
    if remark:
        yield remark
    for name in tx._data:
        value = getattr(tx, name)
        if is_schedule(value) and name not in tx._transforms:
            drawn = curve(value, points=24)
            if drawn is not None:
                yield sparkline(drawn.values)


def _wrapped(first: str, rest: str, name: str, fields: list[str], remark: str) -> list[str]:
    """The text `name(field, field)  # remark` in lines.

    Args:
        first: what stands before the first line.
        rest: what stands before all other lines.
        name: the name of the part.
        fields: the texts of its fields.
        remark: the text of a comment, or "".
    """
    width = max(WIDTH, len(rest) + 40)  # of parts that are nested very deep
    pieces = [f"{field}, " for field in fields]
    pieces = [f"{name}(", *pieces[:-1], f"{fields[-1]})"] if fields else [name]
    pieces = [part for piece in pieces for part in _pieces(piece, width - len(rest) - 4)]
    if remark:
        pieces.append(f"  # {remark}")
    lines, line = [], first + pieces[0]
    for i, piece in enumerate(pieces[1:]):
        if len(line + piece.rstrip()) > width and (i > 0 or len(line) > len(rest) + 8):
            lines.append(line.rstrip())
            line, piece = rest + "    ", piece.lstrip()
        line += piece
    return [*lines, line.rstrip()]


def _pieces(text: str, longest: int) -> list[str]:
    """A text that is longer than a line, such as a schedule, cut behind its commas and operators."""
    if len(text.rstrip()) <= longest:
        return [text]
    return [part for part in re.split(r"(?<=, )|(?<= [-+*/] )", text) if part]

"""Matrix products in a compiled program, counted from its text.

XLA's own count takes the body of a loop once, however often it runs. Here a body counts as often as
the program says that it does.
"""

import math
import re
from typing import NamedTuple

_NAME = r"[\w.\-]+"
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_COMPUTATION = re.compile(rf"^(?:ENTRY )?%?({_NAME}) \((.*)\) -> ")
_INSTRUCTION = re.compile(rf"^\s+(?:ROOT )?%?({_NAME}) = (\w+\[[\d,]*\])")
_DOT = re.compile(rf" dot\((?:\S+ )?%?({_NAME}),.*?lhs_contracting_dims=\{{([\d,]*)\}}")
_CALL = re.compile(rf"(?:calls|to_apply|body)=%?({_NAME})")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Products(NamedTuple):
    """Dot instructions in the program, and the floating-point operations that one run spends there."""

    count: int
    flops: int


def products(text: str) -> Products:
    """The matrix products of the program with this HLO text.

    Raises `ValueError` for products in a loop whose number of rounds the program does not say.
    """
    entry, computations = _computations(text)

    def flops(name: str) -> int:
        shapes, total = {}, 0
        for line in computations[name]:
            if found := _COMPUTATION.match(line):
                for parameter in re.finditer(rf"({_NAME}): (\w+\[[\d,]*\])", found[2]):
                    shapes[parameter[1]] = _sizes(parameter[2])
            if found := _INSTRUCTION.match(line):
                shapes[found[1]] = _sizes(found[2])
            if found := _DOT.search(line):
                left = shapes[found[1]]
                inner = math.prod(left[int(axis)] for axis in found[2].split(",") if axis)
                total += 2 * inner * math.prod(_sizes(line))
            for called in _CALL.findall(line):
                inside = flops(called)
                if inside and " while(" in line:
                    trips = _TRIPS.search(line)
                    if trips is None:
                        raise ValueError(f"a loop of unknown length: {line.strip()[:120]}")
                    inside *= int(trips[1])
                total += inside
        return total

    return Products(sum(map(len, map(_DOT.findall, text.splitlines()))), flops(entry))


def _computations(text: str) -> tuple[str, dict[str, list[str]]]:
    """The name of the entry computation, and the lines of every computation by name."""
    entry, current, computations = "", "", {}
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            current = found[1]
            computations[current] = []
            entry = current if line.startswith("ENTRY") else entry
        computations.setdefault(current, []).append(line)
    return entry, computations


def _sizes(text: str) -> list[int]:
    """The first shape in the text."""
    found = _SHAPE.search(text)
    return [int(size) for size in found[1].split(",") if size] if found else []

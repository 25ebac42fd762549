"""What a compiled program computes and sends, counted from its text.

XLA's own count takes the body of a loop once, however often it runs. Here a body counts as often as
the program says that it does, and of the branches of a choice the most expensive one counts.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

_NAME = r"[\w.\-]+"
_SHAPE = re.compile(r"\w+\[([\d,]*)\]")
_TYPED = re.compile(r"([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_COMPUTATION = re.compile(rf"^(?:ENTRY )?%?({_NAME}) \((.*)\) -> ")
_INSTRUCTION = re.compile(rf"^\s+(?:ROOT )?%?({_NAME}) = (\w+\[[\d,]*\])")
_DOT = re.compile(rf" dot\((?:\S+ )?%?({_NAME}),.*?lhs_contracting_dims=\{{([\d,]*)\}}")
_CALL = re.compile(rf"(?:calls|to_apply|body)=%?({_NAME})")
_BRANCHES = re.compile(
    r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
# On a CPU the result of an all-to-all is a tuple with one array per device, and so may be that of an
# operation that was combined from several. An asynchronous operation counts once, by its start.
_COLLECTIVE = re.compile(
    r"^\s+(?:ROOT )?%?\S+ = (\(.*?\)|\S+) "
    r"(all-gather|all-reduce|reduce-scatter|all-to-all|ragged-all-to-all|collective-permute)(?:-start)?\("
)

_LOWERED = re.compile(
    r'"stablehlo\.(all_to_all|all_gather)".* : tensor<\d+x(\d+)xi64>.*'
    r" : \(tensor<([\dx]+)x[a-z]+(\d+)>\) -> tensor<([\dx]+)x[a-z]+(\d+)>"
)


class Products(NamedTuple):
    """Dot instructions in the program, and the floating-point operations that one run spends there."""

    count: int
    flops: int


class Collective(NamedTuple):
    """A collective operation in the program of one device.

    Attributes:
        kind: the name of the operation, such as "all-to-all".
        bytes: the size of its result, or of its operand if that is larger.
        devices: how many devices take part in one group.
        runs: how often one run of the program carries it out.
    """

    kind: str
    bytes: int
    devices: int
    runs: int

    @property
    def sent(self) -> float:
        """The bytes that a device sends in all runs, if the devices of a group form a ring."""
        passes = {"all-reduce": 2.0, "collective-permute": self.devices / max(self.devices - 1, 1)}
        share = (self.devices - 1) / self.devices
        return self.runs * passes.get(self.kind, 1.0) * share * self.bytes


def products(text: str) -> Products:
    """The matrix products of the program with this HLO text.

    Raises `ValueError` for products in a loop whose number of rounds the program does not say.
    """

    def of_line(line: str, shapes: dict[str, list[int]]) -> int:
        found = _DOT.search(line)
        if found is None:
            return 0
        left = shapes[found[1]]
        inner = math.prod(left[int(axis)] for axis in found[2].split(",") if axis)
        return 2 * inner * math.prod(_sizes(line))

    count = sum(map(len, map(_DOT.findall, text.splitlines())))
    return Products(count, sum(flops * runs for flops, runs in _walk(text, of_line, float)))


def collectives(text: str) -> list[Collective]:
    """The collective operations of the program with this HLO text, in no particular order.

    An operation within a group of one device sends nothing and is left out.

    Raises `ValueError` for an operation in a loop whose number of rounds the program does not say.
    """

    def of_line(line: str, shapes: dict[str, list[int]]) -> Collective | None:
        found = _COLLECTIVE.match(line)
        if found is None:
            return None
        devices = _group(line)
        size = sum(map(_bytes, _TYPED.findall(found[1])))
        if found[2] == "all-gather" and found[1].startswith("(") and "-start(" in line:
            size = size * devices // (devices + 1)  # the operand stands beside the result
        size *= devices if found[2] == "reduce-scatter" else 1
        return Collective(found[2], size, devices, 1) if devices > 1 else None

    return [x._replace(runs=n) for x, n in _walk(text, of_line, lambda x: x.sent)]


def lowered_collectives(text: str) -> list[Collective]:
    """The exchanges and gathers in the StableHLO text of a lowered program, which XLA did not see yet.

    XLA:CPU computes and sends float32 in place of bfloat16. Only before XLA does a program show in which
    dtype matrices travel on other devices.
    """
    found = []
    for kind, devices, *sizes in _LOWERED.findall(text):
        arrays = zip(sizes[::2], sizes[1::2], strict=True)
        size = max(math.prod(map(int, n.split("x"))) * int(bits) // 8 for n, bits in arrays)
        found.append(Collective(kind.replace("_", "-"), size, int(devices), 1))
    return found


def _walk(
    text: str,
    of_line: Callable[[str, dict[str, list[int]]], Any],
    cost: Callable[[Any], float],
) -> list[tuple[Any, int]]:
    """What `of_line` finds in the lines of the program, each with how often one run comes by.

    Of the branches of a choice, the one with the largest sum of `cost` counts.
    """
    entry, computations = _computations(text)

    def total_cost(found: list[tuple[Any, int]]) -> float:
        return sum(cost(x) * runs for x, runs in found)

    def inside(name: str) -> list[tuple[Any, int]]:
        shapes: dict[str, list[int]] = {}
        total: list[tuple[Any, int]] = []
        for line in computations[name]:
            if found := _COMPUTATION.match(line):
                for parameter in re.finditer(rf"({_NAME}): (\w+\[[\d,]*\])", found[2]):
                    shapes[parameter[1]] = _sizes(parameter[2])
            if found := _INSTRUCTION.match(line):
                shapes[found[1]] = _sizes(found[2])
            item = of_line(line, shapes)
            if item:
                total.append((item, 1))
            branches = [
                name.strip().removeprefix("%")
                for several, one in _BRANCHES.findall(line)
                for name in (several.split(",") if several else [one])
            ]
            if branches:
                total += max(map(inside, branches), key=total_cost)
            for called in _CALL.findall(line):
                found = inside(called)
                if found and " while(" in line:
                    trips = _TRIPS.search(line)
                    if trips is None:
                        raise ValueError(f"a loop of unknown length: {line.strip()[:120]}")
                    found = [(x, runs * int(trips[1])) for x, runs in found]
                total += found
        return total

    return inside(entry)


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


def _bytes(typed: tuple[str, str]) -> int:
    """The size of an array from its dtype and its shape, such as `f32` and `16,64`."""
    digits = re.search(r"\d+", typed[0])
    bits = int(digits[0]) if digits else 8
    return math.prod(int(n) for n in typed[1].split(",") if n) * bits // 8


def _group(line: str) -> int:
    """How many devices a group of this operation has. XLA writes groups in three forms."""
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", line):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", found[1])}
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", found[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return 2  # a permutation, which has pairs of devices instead of groups

"""What a compiled program computes and sends, counted from its text.

XLA's own count takes the body of a loop once, however often it runs. Here a body counts as often as
the program says that it does, and of the branches of a choice the most expensive one counts.
"""

import itertools
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

# On a TPU, one operation runs beside several fusions, and stands in each of them.
_CHAIN = re.compile(r"channel_id=(\d+),.*chain_id=")
# The groups of devices that exchange arrays, in the forms in which XLA writes them.
_PAIRS = re.compile(r"source_target_pairs=\{(.*?)\}\}")
_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_NUMBERING = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
_COUNTED = re.compile(rf"replica_groups=\[(?:\d+,)*?(\d+)\]<={_NUMBERING}")
_NAMED = re.compile(
    rf"replica_groups=mesh\[(.*?)\](?:, device_ids=\((?:{_NUMBERING}|([\d,]+))\))? \{{(.*?)\}}"
)


class Collective(NamedTuple):
    """A collective operation in the program of one device.

    Attributes:
        kind: the name of the operation, such as "all-to-all".
        bytes: the size of its result, or of its operand if that is larger.
        devices: how many devices take part in one group.
        runs: how often one run of the program carries it out.
        group: the numbers of the devices in the first group, or of a pair that exchanges arrays.
    """

    kind: str
    bytes: int
    devices: int
    runs: int
    group: tuple[int, ...] = ()

    @property
    def sent(self) -> float:
        """The bytes that a device sends in all runs, if the devices of a group form a ring."""
        passes = {"all-reduce": 2.0, "collective-permute": self.devices / max(self.devices - 1, 1)}
        share = (self.devices - 1) / self.devices
        return self.runs * passes.get(self.kind, 1.0) * share * self.bytes


class Products(NamedTuple):
    """Dot instructions in the program, and the floating-point operations that one run spends there."""

    instructions: int
    flops: int


def products(text: str) -> Products:
    """The matrix products of the program with this HLO text.

    Raises `ValueError` for products in a loop whose number of rounds the program does not say.
    """

    def of_line(line: str, shapes: dict[str, list[int]]) -> int:
        found = _DOT.search(line)
        if found is None:
            return 0
        left = shapes[found[1]]
        inner = math.prod(left[axis] for axis in _integers(found[2]))
        return 2 * inner * math.prod(_sizes(line))

    count = sum(map(len, map(_DOT.findall, text.splitlines())))
    return Products(count, sum(flops * runs for flops, runs in _walk(text, of_line, float)))


def collectives(text: str) -> list[Collective]:
    """The collective operations of the program with this HLO text, in no particular order.

    An operation within a group of one device sends nothing and is left out.

    Raises `ValueError` for an operation in a loop whose number of rounds the program does not say.
    """

    def of_line(line: str, shapes: dict[str, list[int]]) -> tuple[Collective, str | None] | None:
        found = _COLLECTIVE.match(line)
        if found is None:
            return None
        chain = _CHAIN.search(line)
        group = first_group(line)
        devices = len(group)
        size = sum(map(_bytes, _TYPED.findall(found[1])))
        if found[2] == "all-gather" and found[1].startswith("(") and "-start(" in line:
            size = size * devices // (devices + 1)  # the operand stands beside the result
        size *= devices if found[2] == "reduce-scatter" else 1
        one = Collective(found[2], size, devices, 1, group)
        return (one, chain and chain[1]) if devices > 1 else None

    total: dict[Any, Collective] = {}
    for k, ((x, chain), runs) in enumerate(_walk(text, of_line, lambda found: found[0].sent)):
        total[chain or k] = x._replace(runs=runs)
    return [*total.values()]


def _walk(
    text: str,
    of_line: Callable[[str, dict[str, list[int]]], Any],
    cost: Callable[[Any], float],
) -> list[tuple[Any, int]]:
    """What `of_line` finds in the lines of the program, each with how often one run comes by.

    Of the branches of a choice, the one with the largest sum of `cost` counts.
    """
    entry, computations = _computations(text)
    known: dict[str, list[tuple[Any, int]]] = {}

    def total_cost(found: list[tuple[Any, int]]) -> float:
        return sum(cost(x) * runs for x, runs in found)

    def inside(name: str) -> list[tuple[Any, int]]:
        if name not in known:
            known[name] = found_in(name)
        return known[name]

    def found_in(name: str) -> list[tuple[Any, int]]:
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
    return _integers(found[1]) if found else []


def _bytes(typed: tuple[str, str]) -> int:
    """The size of an array from its dtype and its shape, such as `f32` and `16,64`."""
    digits = re.search(r"\d+", typed[0])
    bits = int(digits[0]) if digits else 8
    return math.prod(_integers(typed[1])) * bits // 8


def first_group(line: str) -> tuple[int, ...]:
    """The numbers of the devices in the first group of an operation, in the order of the mesh.

    XLA writes groups in three forms: a list, a numbering of all devices that is reshaped and transposed,
    and names of axes of a mesh, whose devices may be numbered in another order. A permutation has pairs
    instead, of which the first counts whose devices differ. Other groups count as two devices.

    >>> first_group("replica_groups=[4,2]<=[2,4]T(1,0), dimensions={0}")
    (0, 4)
    """
    if found := _PAIRS.search(line):
        pairs = re.findall(r"(\d+),(\d+)", found[1])
        return next(((int(a), int(b)) for a, b in pairs if a != b), (0,))
    if found := _LISTED.search(line):
        return tuple(_integers(found[1]))
    if found := _COUNTED.search(line):
        return tuple(_numbered(found[2], found[3])[: int(found[1])])
    if found := _NAMED.search(line):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", found[1])}
        strides = dict(zip(sizes, _strides([*sizes.values()]), strict=True))
        steps = []
        for name, before, part in re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", found[5]):
            # A part of an axis, `(2)4`, has 4 devices, and 2 such parts lie before it.
            size = int(part) if part else sizes[name]
            after = sizes[name] // (size * int(before)) if part else 1
            steps.append((size, strides[name] * after))
        places = _numbers(steps)
        order = _numbered(found[2], found[3]) if found[2] else _integers(found[4] or "")
        return tuple(order[i] for i in places) if order else tuple(places)
    return (0, 1)


def _integers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]


def _strides(sizes: list[int]) -> list[int]:
    return [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]


def _numbered(shape: str, order: str | None) -> list[int]:
    """0, 1, 2, ... in this shape, transposed, and read line by line."""
    sizes = _integers(shape)
    strides = _strides(sizes)
    return _numbers([(sizes[k], strides[k]) for k in _integers(order or "") or range(len(sizes))])


def _numbers(steps: list[tuple[int, int]]) -> list[int]:
    """The numbers that one meets who takes these many steps of these lengths, in nested loops."""
    loops = (range(0, size * stride, stride) for size, stride in steps)
    return [sum(places) for places in itertools.product(*loops)]

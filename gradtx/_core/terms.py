"""Terms: what the update of a leaf is, as an expression that has not been computed yet."""

from typing import Any

from gradtx._core.leaf import Instruction, LeafProgram, split
from gradtx._core.numerics import bounded, squarable
from gradtx._core.passes import Group
from gradtx._core.values import Value

Stream = list[Any]  # for every leaf a `Term`, or None where the leaf belongs to others


class Term:
    """What the update of a leaf is at some point: a register, or a transformation of other terms."""

    __slots__ = ("args", "call", "register", "tx")

    def __init__(self, call: Any, tx: Any, args: tuple["Term", ...], register: int = -1) -> None:
        self.call, self.tx, self.args, self.register = call, tx, args, register


def register_of(stream: Stream) -> int:
    """The register of a computed stream, -1 for a stream that holds no leaf."""
    return next((term.register for term in stream if term is not None), -1)


def group_of(result: Term, leaves: list[int]) -> Group:
    """The program of the leaves whose update is one term, and what it reads."""
    if result.register >= 0:
        return Group(None, leaves, [result.register], [], [])
    terms: dict[Term, None] = {}  # every term after its arguments
    waiting = [result]
    while waiting:
        term = waiting[-1]
        before = len(waiting)
        for arg in term.args:
            if arg not in terms:
                waiting.append(arg)
        if len(waiting) == before:
            terms.setdefault(waiting.pop())
    place: dict[Term, int] = {}
    sources: list[int] = []
    for term in terms:
        if term.register >= 0:
            place[term] = len(sources)
            sources.append(term.register)
    instructions, arrays, calls = [], [], []
    for term in terms:
        if term.register >= 0:
            continue
        place[term] = len(place)
        key, own = split(term.tx)
        arrays += own
        args = tuple(map(place.__getitem__, term.args))
        call, tx = term.call, term.tx
        if call is None:
            instructions.append(Instruction(key, args, None, (), False))
            continue
        calls.append(call)
        same = type(getattr(tx, "unit", tx)) is type(call.tx)
        scheduled = call.scheduled if same else ()
        instructions.append(Instruction(key, args, call.layout, scheduled, call.begins))
    program = LeafProgram.of(tuple(instructions), place[result])
    return Group(program, leaves, sources, calls, arrays)


class _bound(Value):
    """Gradients bounded to what can be squared, as a step of a leaf's program.

    `shows` says whether an infinity becomes NaN. It costs two operations more, and XLA writes what
    several operations made to memory where several others use it, so it is left out where an infinity
    shows beside it.
    """

    shows: bool

    def apply_leaf(self, args: list[Any], state: Any, param: Any, told: Any) -> Any:
        return (bounded if self.shows else squarable)(args[0]), state


BOUNDED, SQUARABLE = _bound(True), _bound(False)

"""Terms: the update of a leaf as an expression that is not computed yet.

`group_of` turns a term into the program of a leaf, with one instruction per transformation in the term.
"""

from typing import Any

from gradtx._core.leaf import Instruction, LeafProgram, split
from gradtx._core.numerics import bounded, squarable
from gradtx._core.passes import Group
from gradtx._core.values import Value

Stream = list[Any]  # for every leaf its `Term`, or None for a leaf that is not updated here


class Term:
    """The update of a leaf at one point of the lowering.

    It is either the array in a register, or the result of a transformation applied to other terms.

    Args:
        call: the place of the transformation in the program, or None for an instruction without state.
        tx: the transformation.
        args: the terms that it is applied to.
        register: the number of the register, or -1 for a term that is not computed yet.
    """

    __slots__ = ("args", "call", "register", "tx")

    def __init__(self, call: Any, tx: Any, args: tuple["Term", ...], register: int = -1) -> None:
        self.call, self.tx, self.args, self.register = call, tx, args, register


class Visit:
    """A record of one lowered transformation, for `summarize` and `routing`.

    Args:
        tx: the transformation.
        stream: the stream that it got.
        inside: the visits of the transformations inside it.
    """

    state: Any = None
    low: Any = None  # its lowering, if that is another one than of the visit around it
    watches = False  # whether an `observe` tells this record what is lowered inside of it

    def __init__(self, tx: Any, stream: Stream, inside: list["Visit"]) -> None:
        self.tx, self.stream, self.inside = tx, stream, inside

    def below(self, tx: Any, stream: Stream) -> "Visit":
        """Record that a transformation inside this one is lowered now."""
        self.inside.append(Visit(tx, stream, []))
        return self.inside[-1]

    def left(self, low: Any, stream: Stream) -> None:
        """Called when the transformation was lowered, with the stream after it."""


def register_of(stream: Stream) -> int:
    """The register of a computed stream, or -1 for a stream without leaves."""
    return next((term.register for term in stream if term is not None), -1)


def group_of(result: Term, leaves: list[int], probes: tuple[Term, ...] = ()) -> Group:
    """The program of the leaves whose update is the term `result`, with what it reads.

    `probes` are terms of summands (`probes.py`), which the program computes as well.
    """
    if result.register >= 0 and not probes:
        return Group(None, leaves, [result.register], [], [])
    terms: dict[Term, None] = {}  # in topological order: every term comes after its arguments
    waiting = [*probes, result]
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
        key, own = split(term.tx, pack=True)
        arrays += own
        args = tuple(map(place.__getitem__, term.args))
        call, tx = term.call, term.tx
        if call is None:
            instructions.append(Instruction(key, args, None, (), False))
            continue
        calls.append(call)
        # `at_leaf` may have returned another class, which does not have the scheduled fields.
        same = type(getattr(tx, "unit", tx)) is type(call.tx)
        scheduled = call.scheduled if same else ()
        instructions.append(Instruction(key, args, call.layout, scheduled, call.begins))
    summed = tuple(map(place.__getitem__, probes))
    program = LeafProgram.of(tuple(instructions), place[result], summed)
    return Group(program, leaves, sources, calls, arrays)


class _bound(Value):
    """The instruction that clips gradients to entries whose squares are finite.

    `nan_for_infinite` says whether infinite entries become NaN, so that they are not hidden. This takes
    two more operations, and XLA may write their result to memory, where it would repeat the clipping
    alone wherever it is used. So it is left out in a branch if another branch passes infinities on.
    """

    nan_for_infinite: bool

    def apply_leaf(self, args: list[Any], state: Any, param: Any, from_begin: Any) -> Any:
        return bounded(*args) if self.nan_for_infinite else squarable(args[0]), state


BOUNDED, SQUARABLE = _bound(True), _bound(False)

"""A transformation lowered for one structure of parameters: a short list of stages.

Lowering walks once through a transformation (`Transform.lower`), with a *stream* in hand: for every
leaf the term that its update is at this point, or None where the leaf belongs to others. Elementwise
transformations only extend the terms. Whatever has to see arrays (a norm of the tree, matrices of one
shape together, a transformation of the whole tree) first asks for the terms to be computed, which is
one `Pass` over the leaves. So neighbours share a pass however the author nested them, in chains,
fan-outs, masks and partitions alike.

The state is a flat list of cells, numbered while lowering. What the user sees, the nested state with
its names, is a `PyTreeDef` over these numbers; two counters that always agree are one number.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gradtx._core.boundary import with_own_empties
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.layout import layout_of
from gradtx._core.leaf import Instruction, LeafProgram, split
from gradtx._core.numerics import bounded
from gradtx._core.schedule import ScheduledState
from gradtx._core.stages import Begin, Call, Frame, Group, Measure, Pass, Tree, shared_keys
from gradtx._core.trees import PyTree, Structure, paths
from gradtx._core.values import Value

Stream = list[Any]  # for every leaf a `Term`, or None


class Term:
    """What the update of a leaf is at some point: a register, or a transformation of other terms."""

    __slots__ = ("args", "call", "register", "tx")

    def __init__(self, call: Any, tx: Any, args: tuple["Term", ...], register: int = -1) -> None:
        self.call, self.tx, self.args, self.register = call, tx, args, register


class Slot(NamedTuple):
    """A field of a state with one array per leaf: the number of the first leaf's cell."""

    first: int


class Cell(NamedTuple):
    """A shared scalar, or the state of a whole tree: the number of its cell.

    `counts` says whether the scalar counts steps, so that all of one composition agree.
    """

    number: int
    counts: bool = False


class Named(NamedTuple):
    """A state under another name: what the user sees, and the state of the composition behind it.

    A counter that is kept once stands at several places of `plain`, under one number.
    """

    public: Any
    plain: Any


def _is_place(x: Any) -> bool:
    return isinstance(x, Slot | Cell | Named)


class Visit:
    """A transformation that was lowered: the stream it got, its state, and what was lowered inside."""

    state: Any = None

    def __init__(self, tx: Any, stream: Stream, inside: list["Visit"]) -> None:
        self.tx, self.stream, self.inside = tx, stream, inside


class Lowering:
    """What is known and noted while a transformation is lowered.

    Args:
        leaves: the parameters, or gradients that stand in for them; None where nothing is optimized.
        structure: of the tree that they are the leaves of.
        visit: where to note what is lowered, for `summarize` and `routing`.
    """

    def __init__(self, leaves: list[Any], structure: Structure, visit: Visit | None = None) -> None:
        self.leaves, self.structure, self.visit = leaves, structure, visit
        self.stages: list[Any] = []
        self.calls: list[Call] = []
        self.trees: list[Tree] = []
        self.cells = self.registers = 0
        self.merged: dict[int, int] = {}
        self._begins: list[Call] = []
        self._terms: dict[Any, Term] = {}
        self._answers: dict[Any, Any] = {}
        self._paths: list[str] | None = None

    # What rules see

    @property
    def paths(self) -> list[str]:
        """The path of every leaf."""
        if self._paths is None:
            self._paths = paths(self.tree(self.leaves))
        return self._paths

    def tree(self, leaves: list[Any]) -> PyTree:
        """These leaves as a tree like the parameters."""
        return self.structure.unflatten(leaves)

    def once(self, question: Any, ask: Callable[[], Any]) -> Any:
        """The answer to a question about the parameters, which is asked once."""
        if question not in self._answers:
            self._answers[question] = ask()
        return self._answers[question]

    # Streams

    def source(self) -> Stream:
        """The updates as they come in, in a register of their own."""
        register = self.register()
        term = Term(None, None, (), register)
        return [None if x is None else term for x in self.leaves]

    def register(self) -> int:
        """The number of a new list of arrays, one per leaf."""
        self.registers += 1
        return self.registers - 1

    def apply(self, call: Call | None, tx: Any, *streams: Stream) -> Stream:
        """The stream of a transformation (one for all leaves, or a list of one per leaf) applied."""
        out: Stream = []
        for i, terms in enumerate(zip(*streams, strict=True)):
            if terms[0] is None:
                out.append(None)
                continue
            here = tx[i] if type(tx) is list else tx
            key = id(call), id(here), *map(id, terms)
            if key not in self._terms:
                self._terms[key] = Term(call, here, terms)
            out.append(self._terms[key])
        return out

    def bounded(self, stream: Stream) -> Stream:
        """The stream with gradients bounded to what can be squared."""
        for term in stream:
            if term is not None and term.tx is not BOUND:
                return self.apply(None, BOUND, stream)
        return stream

    def same(self, tx: Any) -> Any:
        """One object for equal transformations, so that their leaves share a program."""
        return self._answers.setdefault(("same", tx), tx)

    def compute(self, stream: Stream) -> Stream:
        """The same stream, with every term in a register."""
        registers = {-2 if term is None else term.register for term in stream} - {-2}
        if len(registers) <= 1 and -1 not in registers:
            return stream
        self.begin()
        register = self.register()
        leaves: dict[Term, list[int]] = {}
        for i, term in enumerate(stream):
            if term is not None:
                leaves.setdefault(term, []).append(i)
        self.stages.append(Pass(register, [_group(t, own) for t, own in leaves.items()]))
        term = Term(None, None, (), register)
        return [None if x is None else term for x in stream]

    def begin(self) -> None:
        """Do what units share and has not been done yet, before anything needs it."""
        if self._begins:
            self.stages.append(Begin(self._begins))
            self._begins = []

    def lower(self, tx: Any, stream: Stream) -> tuple[Stream, Any]:
        """The stream after a transformation, and its state."""
        if self.visit is None:
            return tx.lower(self, stream)
        above = self.visit
        self.visit = Visit(tx, stream, [])
        above.inside.append(self.visit)
        stream, self.visit.state = tx.lower(self, stream)
        self.visit = above
        return stream, self.visit.inside[-1].state

    # Units

    def unit(
        self,
        tx: Any,
        streams: tuple[Stream, ...],
        inner: Any = None,
        variants: list[Any] | None = None,
        init: Callable[..., Any] | None = None,
    ) -> tuple[Stream, Any]:
        """A transformation of one array at a time: its stream and its state.

        `streams` is what it gets (a wrapper gets what its inner transformation made and was given),
        `inner` the state of the inner transformation, `variants` the transformation of every leaf
        where they differ, and `init` makes the state of one leaf.
        """
        if tx.measures:  # what it measures is computed first, and only once
            streams = tuple(self.compute(stream) for stream in streams)
        call, state = self.call(tx, streams, inner, variants, init)
        bare = tx.bare if variants is None else variants
        return self.apply(call, bare, *streams), state

    def call(
        self,
        tx: Any,
        streams: tuple[Stream, ...],
        inner: Any = None,
        variants: list[Any] | None = None,
        init: Callable[..., Any] | None = None,
    ) -> tuple[Call, Any]:
        """A unit's place in the program and its state, without the stream."""
        owned = [i for i, term in enumerate(streams[0]) if term is not None]
        first = owned[0] if owned else None
        shape = (1, 1) if first is None else self.leaves[first].shape
        model = tx if variants is None or first is None else variants[first]
        key = jax.tree.structure(model)
        layout = layout_of(init or type(model).init_unit, key, shape, scalar_dtype())
        call = Call(tx, variants, init, layout, owned)
        fields: list[Any] = [None] * layout.size
        for i in layout.arrays:
            fields[i] = Slot(self.cells)
            call.slots.append(self.cells)
            self.cells += len(self.leaves)
        for i, start in zip(layout.scalars, layout.starts, strict=True):
            fields[i] = Cell(self.cells, counts=start.dtype == np.int32 and not start.ndim)
            call.cells.append(self.cells)
            self.cells += 1
        if layout.inner is not None:
            fields[layout.inner] = inner
        state = layout.structure.unflatten(fields)
        call.scheduled = tx.scheduled
        if call.scheduled:
            if layout.step is not None:
                call.step = call.cells[layout.step]
            else:
                call.step, call.counts = self.cell(), True
                state = ScheduledState(Cell(call.step, counts=True), state)
        if tx.measures:
            call.measured = self.measure(tx, streams[0])
        if call.scheduled or call.cells or tx.begins:
            call.begins = True
            self._begins.append(call)
        self.calls.append(call)
        return call, state

    def measure(self, tx: Any, stream: Stream) -> Measure:
        """A stage that asks a transformation for what it has to know of the whole tree."""
        stage = Measure(tx, _register(stream), [term is not None for term in stream])
        self.stages.append(stage)
        return stage

    def whole(self, tx: Any, stream: Stream) -> tuple[Stream, Any]:
        """A transformation of the whole tree: its stream and its state."""
        stream = self.compute(stream)
        self.begin()
        stage = Tree(tx, _register(stream), self.register(), [x is not None for x in stream])
        stage.cell = self.cell()
        state: Any = Cell(stage.cell)
        if tx.scheduled:
            stage.step = self.cell()
            state = ScheduledState(Cell(stage.step, counts=True), state)
        self.stages.append(stage)
        self.trees.append(stage)
        term = Term(None, None, (), stage.result)
        return [None if x is None else term for x in stream], state

    def merge(self, kept: Cell, other: Cell) -> None:
        """Keep two counters that always agree in one cell."""
        self.merged[other.number] = kept.number

    def cell(self, count: int = 1) -> int:
        """The number of a new cell of the state, or of the first of several."""
        self.cells += count
        return self.cells - count


def _register(stream: Stream) -> int:
    return next((term.register for term in stream if term is not None), -1)


def _group(result: Term, leaves: list[int]) -> Group:
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
    """Gradients bounded to what can be squared, as a step of a leaf's program."""

    def apply_leaf(self, args: list[Any], state: Any, param: Any, told: Any) -> Any:
        return bounded(args[0]), state


BOUND = _bound()


class Program:
    """A transformation lowered for one structure of parameters: its stages, and its state's structure.

    Args:
        tx: the transformation.
        leaves, structure, visit: as in `Lowering`.
    """

    def __init__(
        self, tx: Any, leaves: list[Any], structure: Structure, visit: Visit | None = None
    ) -> None:
        self.lowering = low = Lowering(leaves, structure, visit)
        stream, state = low.lower(tx, low.source())
        stream = low.compute(stream)
        low.begin()
        self.result = _register(stream)
        for call in low.calls:
            for i, number in enumerate(call.cells):
                call.cells[i] = low.merged.get(number, number)
            call.step = low.merged.get(call.step, call.step)  # pyright: ignore
        self.stages, self.state = low.stages, state
        self.numbers, self.layout = _numbered(state, low, public=True)
        self._decided = False

    def init(self, params: list[Any]) -> Any:
        """The state before the first step."""
        cells = self.init_cells(params)
        return self.layout.unflatten([cells[number] for number in self.numbers])

    def init_cells(self, params: list[Any]) -> list[Any]:
        """The cells of the state before the first step."""
        low = self.lowering
        absent = [None if p is None else optax.MaskedNode() for p in params]
        cells: list[Any] = [None] * low.cells
        for call in low.calls:
            call.init(cells, params, absent)
        for stage in low.trees:
            stage.init(cells, params, absent, low.structure)
        return cells

    def update(
        self, updates: list[Any], state: Any, params: list[Any] | None, extra: dict[str, Any]
    ) -> tuple[list[Any], Any]:
        """One step on the leaves of a tree of updates, without checks or rounding."""
        low = self.lowering
        cells: list[Any] = [None] * low.cells
        try:
            flat = self.layout.flatten_up_to(state)
        except (ValueError, TypeError):
            # A transformation without a state takes every empty state: `()`, None, `EmptyState()`.
            want = self.layout.unflatten(self.numbers)
            flat = self.layout.flatten_up_to(with_own_empties(want, state))
        for number, x in zip(self.numbers, flat, strict=True):
            cells[number] = x
        frame = Frame(low, cells, updates, params, extra, self.free_numbers(updates))
        for stage in self.stages:
            stage.run(frame)
        out = frame.registers[self.result] if self.result >= 0 else updates
        return out, self.layout.unflatten([cells[number] for number in self.numbers])

    def free_numbers(self, updates: list[Any]) -> bool:
        """Whether the numbers of this transformation travel as arguments, see `numbers.py`."""
        if not self._decided:
            if any(isinstance(x, jax.core.Tracer) for x in updates[:1]):
                return False
            self._decided, self._free = True, _changes_often(self.stages)
        return self._free

    @functools.cached_property
    def plain(self) -> tuple[list[int], Structure]:
        """Numbers and structure of the state of the composition, whose recipes name no states."""
        return _numbered(self.state, self.lowering, public=False)

    def to_plain(self, state: Any) -> Any:
        """The state of the composition, with the numbers of the named one."""
        cells = dict(zip(self.numbers, self.layout.flatten_up_to(state), strict=True))
        numbers, layout = self.plain
        return layout.unflatten([cells[number] for number in numbers])

    def from_plain(self, state: Any) -> Any:
        """The named state, with the numbers of the composition's."""
        numbers, layout = self.plain
        cells = dict(zip(numbers, layout.flatten_up_to(state), strict=True))
        return self.layout.unflatten([cells[number] for number in self.numbers])


def _numbered(state: Any, low: Lowering, public: bool) -> tuple[list[int], Structure]:
    """The numbers of the cells in the order of a state's leaves, and the structure of the state."""
    leaves = low.structure

    def spread(x: Any) -> Any:
        match x:
            case Slot():
                return leaves.unflatten(range(x.first, x.first + leaves.num_leaves))
            case Cell():
                return low.merged.get(x.number, x.number)
            case Named():
                return jax.tree.map(spread, x.public if public else x.plain, is_leaf=_is_place)
            case _:
                return x

    return jax.tree.flatten(jax.tree.map(spread, state, is_leaf=_is_place))


# Programs that were run un-jitted, by all but their numbers: the numbers that they were compiled for.
_compiled_for: dict[Any, list[Any]] = {}
_MOST_PROGRAMS, _MOST_NUMBERS = 256, 3


def _changes_often(stages: list[Any]) -> bool:
    """Whether the same program was compiled for several other numbers already."""
    structure, numbers = shared_keys(stages)
    known = _compiled_for.setdefault(structure, [])
    if numbers in known:
        return False
    if len(known) >= _MOST_NUMBERS:
        return True
    known.append(numbers)
    if len(_compiled_for) > _MOST_PROGRAMS:
        del _compiled_for[next(iter(_compiled_for))]
    return False


def cells_of(state: Any, leaves: int) -> set[int]:
    """The numbers of the cells of a state, in a program of so many leaves."""
    found: set[int] = set()
    for x in jax.tree.leaves(state, is_leaf=_is_place):
        match x:
            case Slot():
                found |= {*range(x.first, x.first + leaves)}
            case Cell():
                found.add(x.number)
            case Named():
                found |= cells_of(x.public, leaves)
    return found

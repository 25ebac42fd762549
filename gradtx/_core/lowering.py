"""Lowering: one walk through a nested transformation, which turns it into a short list of stages.

`Transform.lower` gets a *stream* and returns the stream after the transformation. A stream is a list
that holds, for every leaf, the *term* of its update: an expression, which is not computed yet, of the
transformations applied so far. It holds None for a leaf that the transformation does not update.

An elementwise transformation only extends the terms. A transformation that needs arrays (for a norm of
the tree, for matrices of several leaves, for a method of the whole tree) first calls `compute`, which
appends one `Pass`: a stage that evaluates all terms so far, leaf by leaf. So elementwise transformations
in sequence share a pass, no matter how chains, fan-outs, masks and partitions nest them.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradtx._core.authors import without_inner
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.layout import layout_of
from gradtx._core.passes import Pass
from gradtx._core.places import Cell, Slot, cells_of
from gradtx._core.probes import Probe, groups_of
from gradtx._core.schedule import ScheduledState
from gradtx._core.stages import Begin, Call, Measuring
from gradtx._core.terms import BOUNDED, SQUARABLE, Stream, Term, Visit, register_of
from gradtx._core.trees import PyTree, Structure, paths
from gradtx._core.whole import Tree


class Lowering:
    """The state of one lowering: what is known about the parameters, and the stages so far.

    Args:
        leaves: the parameters, or gradients in their place; None for leaves that are not optimized.
        structure: the structure of the tree of parameters.
        visit: the visit to which lowered transformations are added, or None to record nothing.
    """

    def __init__(self, leaves: list[Any], structure: Structure, visit: Visit | None = None) -> None:
        self.leaves, self.structure, self.visit = leaves, structure, visit
        self.on_mesh, self.result = False, -1  # whether leaves lie on a mesh; the register returned
        self.stages: list[Any] = []
        self.calls: list[Call] = []
        self.trees: list[Any] = []  # the stages that fill cells of their own in `init`
        self.cells = self.registers = 0  # how many there are so far
        self.whole_fanouts = 0  # how many fan-outs around here need arrays between their branches
        self.merged: dict[int, int] = {}  # for the cell of a second counter, the cell of the first
        self.scalars = scalar_dtype()
        self.gradients: Stream = []
        self.probes: list[Probe] = []
        self.matrices: set[int] = set()  # the leaves that transformations of matrices update
        self._begins, self._terms = list[Call](), dict[Any, Term]()
        self._answers: dict[Any, Any] = {}
        self._paths: list[str] | None = None

    # The parameters

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
        """The cached answer to a question about the parameters; `ask` computes it the first time."""
        if (known := self._answers.get(question, self)) is self:  # which is never an answer
            known = self._answers[question] = ask()
        return known

    # Streams

    def source(self) -> Stream:
        """The stream of the incoming gradients, which lie in a register."""
        register = self.register()
        term = Term(None, None, (), register)
        self.gradients = [None if x is None else term for x in self.leaves]
        return self.gradients

    def register(self) -> int:
        """The number of a new register. A register is a list of arrays, one per leaf."""
        self.registers += 1
        return self.registers - 1

    def apply(self, call: Call | None, tx: Any, *streams: Stream) -> Stream:
        """The stream after a transformation is applied to the terms of `streams`.

        `tx` is the transformation of all leaves, or a list with the transformation of each leaf.
        """
        out: Stream = []
        for i, terms in enumerate(zip(*streams, strict=True)):
            if terms[0] is None:
                out.append(None)
                continue
            # Leaves with the same transformations behind them get the same term, and so one program.
            here = tx[i] if type(tx) is list else tx
            key = id(call), id(here), *map(id, terms)
            if key not in self._terms:
                self._terms[key] = Term(call, here, terms)
            out.append(self._terms[key])
        return out

    def bounded(self, *streams: Stream, how: Any = BOUNDED) -> Stream:
        """The stream with gradients clipped to entries whose squares are finite.

        Infinite entries become NaN, unless `how` is `SQUARABLE`. The stream that is clipped in this way
        may be passed as well, so that it is not computed twice.
        """
        for term in streams[0]:
            if term is not None and term.tx is not BOUNDED and term.tx is not SQUARABLE:
                return self.apply(None, how, *streams)
        return streams[0]

    def interned(self, tx: Any) -> Any:
        """The same object for equal transformations, so that their leaves share a program."""
        return self._answers.setdefault(("interned", tx), tx)

    def compute(self, stream: Stream) -> Stream:
        """The stream with all its terms computed into one register, by a new `Pass` if needed."""
        registers = {-2 if term is None else term.register for term in stream} - {-2}
        if len(registers) <= 1 and -1 not in registers:
            return stream
        self.flush_begins()
        register = self.register()
        self.stages.append(Pass(register, groups_of(stream, self.probes)))
        self.once(("computed", register), lambda: stream)
        term = Term(None, None, (), register)
        return [None if x is None else term for x in stream]

    def flush_begins(self) -> None:
        """Append one `Begin` for all calls that still need one, before a stage needs its results."""
        if self._begins:
            self.stages.append(Begin(self._begins))
            self._begins = []

    def lower(self, tx: Any, stream: Stream) -> tuple[Stream, Any]:
        """The stream after a transformation, and its state with places; records the visit."""
        if self.visit is None:
            return tx.lower(self, stream)
        above, self.visit = self.visit, self.visit.below(tx, stream)
        stream, self.visit.state = tx.lower(self, stream)
        self.visit.left(self, stream)
        self.visit = above
        return stream, self.visit.inside[-1].state

    # Elementwise and matrixwise transformations

    def unit(
        self,
        tx: Any,
        streams: tuple[Stream, ...],
        inner: Any = None,
        variants: list[Any] | None = None,
    ) -> tuple[Stream, Any]:
        """The stream after a transformation of one array at a time, and its state.

        Args:
            tx: the transformation.
            streams: the incoming stream; for a wrapper the stream after `inner` and the one before it.
            inner: for a wrapper, the state of the inner transformation.
            variants: the transformation of every leaf if they differ, else None.
        """
        if tx.measures:  # `measure` needs arrays, and the update then starts from the same arrays
            streams = tuple(self.compute(stream) for stream in streams)
        call, state = self.call(tx, streams, inner, variants)
        bare = variants
        if variants is None:
            bare = tx.bare if call.scheduled or tx.wraps else tx
        return self.apply(call, bare, *streams), state

    def call(
        self,
        tx: Any,
        streams: tuple[Stream, ...],
        inner: Any = None,
        variants: list[Any] | None = None,
    ) -> tuple[Call, Any]:
        """The place in the program of a transformation of one array at a time, and its state."""
        owned = [i for i, term in enumerate(streams[0]) if term is not None]
        first = owned[0] if owned else None
        shape = (1, 1) if first is None else self.leaves[first].shape
        model = tx if variants is None or first is None else variants[first]
        key = jax.tree.structure(model)
        layout = layout_of(type(model).init_unit, key, shape, self.scalars)
        call = Call(tx, variants, layout, owned)
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
        elif tx.wraps and cells_of(inner, len(self.leaves)):
            raise without_inner(tx)
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
        if call.scheduled or call.cells or tx.begins or tx.measures:
            call.begins = True
            self._begins.append(call)
        self.calls.append(call)
        return call, state

    def measure(self, tx: Any, stream: Stream) -> Measuring:
        """Append the stage that calls `measure` of a transformation."""
        stage = Measuring(tx, register_of(stream), [term is not None for term in stream])
        self.stages.append(stage)
        return stage

    def whole(self, tx: Any, stream: Stream) -> tuple[Stream, Any]:
        """The stream after a transformation of the whole tree, and its state."""
        stream = self.compute(stream)
        self.flush_begins()
        stage = Tree(tx, register_of(stream), self.register(), [x is not None for x in stream])
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
        """Store two counters that always agree in one cell."""
        self.merged[other.number] = kept.number

    def cell(self) -> int:
        """The number of a new cell of the state."""
        self.cells += 1
        return self.cells - 1

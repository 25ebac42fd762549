"""`Program`: a transformation lowered for one structure of parameters, and how it is run."""

import functools
from typing import Any

import jax
import optax
from jax.core import Tracer

from gradtx._core.boundary import with_empty_parts_of
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.layouts import known_sharding, warn_of_layout
from gradtx._core.lowering import Lowering, Visit
from gradtx._core.places import numbered
from gradtx._core.record import finish
from gradtx._core.retrace import changes_often, keep_constant
from gradtx._core.sharding import manual_axes, mesh_of
from gradtx._core.stages import Frame
from gradtx._core.terms import register_of
from gradtx._core.trees import Structure


class Program:
    """A transformation lowered for one structure of parameters.

    It holds the stages that a step runs (`stages.py`), and the way between the state as the user sees
    it, which is nested, and the flat list of cells that the stages work on (`places.py`).

    Args:
        tx: the transformation.
        leaves: the parameters, or gradients in their place; None for leaves that are not optimized.
        structure: the structure of the tree of parameters.
        visit: records what is lowered, for `summarize` and `routing`; usually None.
        on_mesh: whether the parameters lie on a mesh of several devices.
    """

    def __init__(
        self,
        tx: Any,
        leaves: list[Any],
        structure: Structure,
        visit: Visit | None = None,
        *,
        on_mesh: bool = False,
    ) -> None:
        self.tx = tx
        self.lowering = low = Lowering(leaves, structure, visit)
        low.on_mesh = on_mesh
        stream, state = low.lower(tx, low.source())
        stream = low.compute(stream)
        low.flush_begins()
        finish(low)
        self.result = low.result = register_of(stream)
        for call in low.calls:
            for i, number in enumerate(call.cells):
                call.cells[i] = low.merged.get(number, number)
            call.step = low.merged.get(call.step, call.step)
        self.stages, self.state = low.stages, state
        self.numbers, self.layout = numbered(state, structure, low.merged, public=True)
        self._decided = False

    def init(self, params: list[Any]) -> Any:
        """The state before the first step."""
        warn_of_layout(self, params, [known_sharding(x) for x in params], 3)
        cells = self.init_cells(params)
        return self.layout.unflatten([cells[number] for number in self.numbers])

    def init_cells(self, params: list[Any]) -> list[Any]:
        """The cells of the state before the first step, as a flat list."""
        low = self.lowering
        # For a leaf that a transformation does not update, its state holds the placeholder of Optax.
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
        """One step on the leaves of a tree of updates, with neither checks nor rounding."""
        low = self.lowering
        if low.matrices and not low.on_mesh:
            on_mesh = mesh_of(x for i in low.matrices for x in (updates[i], params and params[i]))
            if on_mesh is not None:
                return self.on_mesh.update(updates, state, params, extra)
        cells: list[Any] = [None] * low.cells
        try:
            flat = self.layout.flatten_up_to(state)
        except (ValueError, TypeError):
            # A part without a state accepts every empty state: `()`, None or `EmptyState()`.
            want = self.layout.unflatten(self.numbers)
            flat = self.layout.flatten_up_to(with_empty_parts_of(want, state))
        for number, x in zip(self.numbers, flat, strict=True):
            cells[number] = x
        parametrized = self.is_parametrized(updates)
        frame = Frame(low, list(cells), updates, params, extra, parametrized)
        try:
            self._run(frame)
        except Exception:
            if not parametrized:
                raise
            # A class that branches on its number (`if self.decay > 0.5`) needs it as a constant. So
            # the step is run again with constants, and an error that this does not cure is raised.
            frame = Frame(low, cells, updates, params, extra, False)
            self._run(frame)
            self._parametrized = False
            keep_constant(self.stages)
        out = frame.registers[self.result] if self.result >= 0 else updates
        return out, self.layout.unflatten([frame.cells[number] for number in self.numbers])

    @functools.cached_property
    def on_mesh(self) -> "Program":
        """The program for parameters on a mesh, whose state is the same."""
        low = self.lowering
        return Program(self.tx, low.leaves, low.structure, on_mesh=True)

    def _run(self, frame: Frame) -> None:
        for stage in self.stages:
            stage.run(frame)

    def is_parametrized(self, updates: list[Any]) -> bool:
        """Whether hyperparameters are arguments of the compiled functions (`numbers.py`).

        Under an outer `jit` they are constants. Otherwise `retrace.py` decides at the first step.
        """
        if not self._decided:
            if updates and isinstance(updates[0], Tracer):
                return False
            self._decided, self._parametrized = True, changes_often(self.stages)
        return self._parametrized

    @functools.cached_property
    def plain(self) -> tuple[list[int], Structure]:
        """The cells and the structure of the nested state, without the names that recipes give."""
        return numbered(self.state, self.lowering.structure, self.lowering.merged, public=False)

    def to_plain(self, state: Any) -> Any:
        """The nested state that holds the arrays of a state with the names of recipes."""
        cells = dict(zip(self.numbers, self.layout.flatten_up_to(state), strict=True))
        numbers, layout = self.plain
        return layout.unflatten([cells[number] for number in numbers])

    def from_plain(self, state: Any) -> Any:
        """The state with the names of recipes that holds the arrays of a nested state."""
        numbers, layout = self.plain
        cells = dict(zip(numbers, layout.flatten_up_to(state), strict=True))
        return self.layout.unflatten([cells[number] for number in self.numbers])


def known_program(tx: Any, leaves: list[Any], structure: Structure) -> Program:
    """The transformation lowered for parameters like these; `tx` keeps the last eight programs."""
    arrays = tuple([None if x is None else (x.shape, x.dtype) for x in leaves])
    # Inside `shard_map`, a rule may compute the size of a whole array from the size of the mesh.
    key = structure, arrays, scalar_dtype(), tuple(manual_axes().items())
    known = tx.__dict__.setdefault("_programs", {})
    if key not in known:
        if len(known) >= 8:
            del known[next(iter(known))]
        shapes = [None if k is None else jax.ShapeDtypeStruct(*k) for k in arrays]
        known[key] = Program(tx, shapes, structure)
    return known[key]

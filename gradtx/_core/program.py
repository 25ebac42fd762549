"""A transformation lowered for one structure of parameters, and how it is run."""

import functools
from typing import Any

import optax
from jax.core import Tracer

from gradtx._core.boundary import with_own_empties
from gradtx._core.lowering import Lowering, Visit
from gradtx._core.places import numbered
from gradtx._core.retrace import changes_often, keep_constant
from gradtx._core.stages import Frame
from gradtx._core.terms import register_of
from gradtx._core.trees import Structure


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
        self.result = register_of(stream)
        for call in low.calls:
            for i, number in enumerate(call.cells):
                call.cells[i] = low.merged.get(number, number)
            call.step = low.merged.get(call.step, call.step)
        self.stages, self.state = low.stages, state
        self.numbers, self.layout = numbered(state, structure, low.merged, public=True)
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
        free = self.free_numbers(updates)
        frame = Frame(low, list(cells), updates, params, extra, free)
        try:
            self._run(frame)
        except Exception:
            if not free:
                raise
            # A class that asks for its number (`if self.decay > 0.5`) gets it as a constant.
            frame = Frame(low, cells, updates, params, extra, False)
            self._run(frame)
            self._free = False
            keep_constant(self.stages)
        out = frame.registers[self.result] if self.result >= 0 else updates
        return out, self.layout.unflatten([frame.cells[number] for number in self.numbers])

    def _run(self, frame: Frame) -> None:
        for stage in self.stages:
            stage.run(frame)

    def free_numbers(self, updates: list[Any]) -> bool:
        """Whether the numbers of this transformation travel as arguments, see `numbers.py`."""
        if not self._decided:
            if any(isinstance(x, Tracer) for x in updates[:1]):
                return False
            self._decided, self._free = True, changes_often(self.stages)
        return self._free

    @functools.cached_property
    def plain(self) -> tuple[list[int], Structure]:
        """Numbers and structure of the state of the composition, whose recipes name no states."""
        return numbered(self.state, self.lowering.structure, self.lowering.merged, public=False)

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

"""`Pass`, the stage that calls one function per leaf for several elementwise transformations."""

import functools
from typing import Any

from gradtx._core.leaf import LeafProgram, run_leaf
from gradtx._core.numbers import triples


class Group:
    """The leaves that share a program, and what the program reads.

    Args:
        program: the program, or None for leaves that are only copied from one register to another.
        leaves: the indices of the leaves.
        sources: the registers of the incoming updates.
        calls: the transformations with a place in the program, in its order.
        arrays: the arrays among the hyperparameters, in the same order.
    """

    def __init__(
        self,
        program: LeafProgram | None,
        leaves: list[int],
        sources: list[int],
        calls: Any,
        arrays: Any,
    ) -> None:
        self.program, self.leaves, self.sources = program, leaves, sources
        self.arrays = arrays
        self.begin_calls = [call for call in calls if call.begins]
        self.slots = [first for call in calls for first in call.slots]
        self.probes: list[Any] = []  # which the program computes as well, in its order

    @functools.cached_property
    def parametrized(self) -> tuple[Any, Any]:
        """The program that takes its numbers as an argument, and the triples of these numbers."""
        assert self.program is not None
        program, numbers = self.program.parametrized
        return program, triples(numbers)


class Pass:
    """One call per leaf that runs all elementwise transformations up to the next reduction."""

    def __init__(self, result: int, groups: list[Group]) -> None:
        self.result, self.groups = result, groups

    def run(self, frame: Any) -> None:
        params, cells, packed = frame.params, frame.cells, tuple(frame.packed)
        out: list[Any] = [None] * len(frame.registers[0])
        for group in self.groups:
            sources = list(map(frame.registers.__getitem__, group.sources))
            if group.program is None:
                for i in group.leaves:
                    out[i] = sources[0][i]
                continue
            from_begin = list(map(frame.from_begin.__getitem__, group.begin_calls))
            program, numbers = group.parametrized if frame.parametrized else (group.program, None)
            for i in group.leaves:
                updates = (sources[0][i],) if len(sources) == 1 else tuple([x[i] for x in sources])
                if updates[0] is None:  # no gradient at this step
                    continue
                own = tuple([cells[first + i] for first in group.slots])
                param = None if params is None else params[i]
                try:
                    out[i], new, sums = run_leaf(
                        program, numbers, packed, group.arrays, from_begin, updates, own, param
                    )
                except Exception as error:
                    shape = updates[0].shape
                    error.add_note(
                        f"This is the leaf `{frame.low.paths[i] or '.'}`, of shape {shape}."
                    )
                    raise
                for first, x in zip(group.slots, new, strict=True):
                    cells[first + i] = x
                for probe, found in zip(group.probes, sums, strict=True):
                    frame.sums.setdefault(probe, {})[i] = found
        frame.registers[self.result] = out

"""`Pass`: one function per leaf, for all elementwise neighbours together."""

import functools
from typing import Any

from gradtx._core.leaf import LeafProgram, run_leaf
from gradtx._core.numbers import rows


class Group:
    """The leaves that share a program, and what the program reads.

    `program` is None where the leaves only go from one register to another.
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
        self.told = [call for call in calls if call.begins]
        self.slots = [first for call in calls for first in call.slots]

    @functools.cached_property
    def freed(self) -> tuple[Any, Any]:
        """The program with its numbers as an argument, and these numbers."""
        assert self.program is not None
        program, numbers = self.program.freed
        return program, rows(numbers)


class Pass:
    """One function per leaf: everything elementwise between two looks at the whole tree."""

    def __init__(self, result: int, groups: list[Group]) -> None:
        self.result, self.groups = result, groups

    def run(self, frame: Any) -> None:
        params, cells = frame.params, frame.cells
        out: list[Any] = [None] * len(frame.registers[0])
        for group in self.groups:
            sources = list(map(frame.registers.__getitem__, group.sources))
            if group.program is None:
                for i in group.leaves:
                    out[i] = sources[0][i]
                continue
            told = list(map(frame.told.__getitem__, group.told))
            program, numbers = group.freed if frame.free else (group.program, None)
            for i in group.leaves:
                updates = (sources[0][i],) if len(sources) == 1 else tuple([x[i] for x in sources])
                if updates[0] is None:  # no gradient at this step
                    continue
                own = tuple([cells[first + i] for first in group.slots])
                param = None if params is None else params[i]
                try:
                    out[i], new = run_leaf(
                        program, numbers, group.arrays, told, updates, own, param
                    )
                except Exception as error:
                    shape = updates[0].shape
                    error.add_note(
                        f"This is the leaf `{frame.low.paths[i] or '.'}`, of shape {shape}."
                    )
                    raise
                for first, x in zip(group.slots, new, strict=True):
                    cells[first + i] = x
        frame.registers[self.result] = out

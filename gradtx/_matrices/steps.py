"""Several transformations of matrices in sequence, carried out on whole matrices in one place.

On a mesh, the transformations between two exchanges belong together: each `Step` reads the matrices
that came in or what an earlier step returned, and keeps its own state.
"""

from typing import Any, NamedTuple

from gradtx._core.layout import Layout
from gradtx._core.leaf import Split
from gradtx._matrices.groups import map_groups
from gradtx._matrices.hops import Rows
from gradtx._matrices.stage import update_matrices
from gradtx._matrices.units import UnitGroup


class Step(NamedTuple):
    """One transformation, as a part of a compiled function's cache key.

    Attributes:
        key: its static part.
        layout: the layout of its state.
        scheduled: the names of its hyperparameters that are schedules.
        args: for every stream that it reads, the number of the value (first the matrices that came in,
            then the results of the steps), and what clips the entries, or None.
    """

    key: Split
    layout: Layout
    scheduled: tuple[str, ...]
    args: tuple[tuple[int, Any], ...]


class Steps(NamedTuple):
    """A sequence of steps.

    Attributes:
        steps: the steps in their order.
        inputs: how many arrays of matrices come in.
        wanted: the numbers of the steps whose results are read later.
        transposes: whether every step commutes with the transpose.
    """

    steps: tuple[Step, ...]
    inputs: int
    wanted: tuple[int, ...]
    transposes: bool
    kept = None  # all arrays of the state come back

    @property
    def outputs(self) -> int:
        """How many arrays of matrices come back."""
        return len(self.wanted)

    def run(self, group: UnitGroup, arrays: list[Rows], numbers: list[Any]) -> list[Rows]:
        """The wanted results, and the new arrays of the state, of whole units.

        Args:
            group: what the units have in common.
            arrays: the units that came in, `[batch, *unit]`, then the arrays of the state,
                `[batch, blocks, ...]`: step after step, and within a step one part after the other.
            numbers: for each step its arrays, and what `begin` computed for it.
        """
        if not len(arrays[0]):
            units = [arrays[0] for _ in self.wanted]
            return [*units, *arrays[self.inputs :]]
        parts = list(zip(*(group.axes.split_parts(x) for x in arrays[: self.inputs]), strict=True))
        states = arrays[self.inputs :]
        flat = [x.reshape(-1, *x.shape[2:]) for x in states]
        counts = [len(step.layout.arrays) for step in self.steps]
        stacks = []
        for k, xs in enumerate(parts):
            own, start = [], 0
            for count in counts:
                first = start + k * count
                own += flat[first : first + count]
                start += count * len(parts)
            stacks.append((*xs, *own))

        def f(*stack: Any) -> Any:
            values, state = list(stack[: self.inputs]), list(stack[self.inputs :])
            new: list[Any] = []
            for step, count, own in zip(self.steps, counts, numbers, strict=True):
                args = [
                    values[i] if clip is None else clip.apply_leaf([values[i]], (), None, None)[0]
                    for i, clip in step.args
                ]
                old, state = state[:count], state[count:]
                x, *changed = update_matrices(*step[:3], len(args), *own, *args, *old)
                values.append(x)
                new += changed
            return [*(values[self.inputs + i] for i in self.wanted), *new]

        done = map_groups(f, stacks, transposes=self.transposes)
        units = [
            group.axes.join_parts([part[i] for part in done], arrays[0].shape)
            for i in range(len(self.wanted))
        ]
        new, place = [], len(self.wanted)
        for count in counts:
            for part in done:
                new += part[place : place + count]
            place += count
        return [*units, *(x.reshape(old.shape) for x, old in zip(new, states, strict=True))]

"""The stage of a lowered program that updates matrices of one shape together."""

import functools
from typing import Annotated, Any

import jax

from gradtx._core.dtypes import cast_floating, compute_dtype, like
from gradtx._core.layout import Layout
from gradtx._core.leaf import Split, split
from gradtx._core.new_state import checked_arrays
from gradtx._core.numbers import called
from gradtx._core.sharding import replicated
from gradtx._core.stages import Call
from gradtx._core.tuned import settled
from gradtx._matrices.groups import map_groups
from gradtx._matrices.parts import pack, part_shapes, unpack


class MatrixStage:
    """A stage that updates the matrices of all leaves, with one call for all matrices of one shape.

    Like every stage it reads its inputs from the registers of a frame and writes its result there.
    """

    def __init__(
        self, call: Call, tx: Any, axes: list[Any], sources: list[int], result: int
    ) -> None:
        self.call, self.axes, self.sources, self.result = call, axes, sources, result
        self.tx, self.arrays = split(tx)
        self.init = tx.init_matrices
        self.transposes = tx.transposes
        self.leaves = [i for i, a in enumerate(axes) if a is not None]

    def run(self, frame: Any) -> None:
        from_begin = frame.from_begin[self.call] if self.call.begins else ((), None)
        inputs = [frame.registers[source] for source in self.sources]
        leaves = [i for i in self.leaves if inputs[0][i] is not None]
        stacks, backs, spans = [], [], []
        for i in leaves:
            dtype = compute_dtype(*(x[i] for x in inputs))
            gathered = [replicated(x[i].astype(dtype)) for x in inputs]
            backs.append(gathered[0][1])
            parts = list(zip(*(self.axes[i].split_parts(x) for x, _ in gathered), strict=True))
            models = [jax.ShapeDtypeStruct(xs[0].shape, dtype) for xs in parts]
            state = [frame.cells[first + i] for first in self.call.slots]
            states = unpack(state, part_shapes(self.init, models))
            spans.append(slice(len(stacks), len(stacks) + len(parts)))
            stacks += [(*xs, *own) for xs, own in zip(parts, states, strict=True)]
        f = functools.partial(
            update_matrices,
            self.tx,
            self.call.layout,
            self.call.scheduled,
            len(inputs),
            settled(self.arrays, frame.found),
            from_begin,
        )
        out: list[Any] = [None] * len(self.axes)
        try:
            results = map_groups(f, stacks, transposes=self.transposes)
        except Exception as error:
            first, last = (frame.low.paths[i] or "." for i in (leaves[0], leaves[-1]))
            error.add_note(f"This is one of the matrices from `{first}` to `{last}`.")
            raise
        for i, back, span in zip(leaves, backs, spans, strict=True):
            parts = results[span]
            out[i] = back(self.axes[i].join_parts([x for x, *_ in parts], inputs[0][i].shape))
            state = pack([own for _, *own in parts])
            for first, new in zip(self.call.slots, state, strict=True):
                frame.cells[first + i] = new
        frame.registers[self.result] = out


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def update_matrices(
    key: Split,
    layout: Layout,
    scheduled: Any,
    count: int,
    arrays: Any,
    from_begin: Any,
    *stacks: Annotated[jax.Array, "batch ..."],
) -> tuple[Annotated[jax.Array, "batch ..."], ...]:
    """The updated matrices of a group, and the arrays of its new state.

    Args:
        key: the structure of the transformation.
        layout: where the arrays lie in its state.
        scheduled: the names of the fields that schedules give the values of.
        count: how many of `stacks` are matrices; the others are arrays of the state.
        arrays: the numbers of the transformation.
        from_begin: the values of the schedules, and what `begin` returned.
        stacks: the matrices of the group and the arrays of its state.
    """
    dtype = stacks[0].dtype
    tx = key.join(iter(cast_floating(arrays, dtype)), iter(()))
    values, now = cast_floating(from_begin, dtype)
    if scheduled:
        tx = tx._with(**dict(zip(scheduled, values, strict=True)))
    old = list(stacks[count:])
    state = layout.fill(layout.arrays, cast_floating(old, dtype))
    matrices = list(stacks[:count])
    x, new = (
        called(tx, "apply_matrices", matrices, state, now)
        if arrays
        else tx.apply_matrices(matrices, state, now)
    )
    return x.astype(dtype), *like(checked_arrays(tx, layout, new, old), old)

"""The step of one leaf: one traced function for all leaves of the same shape, dtype and program.

A `LeafProgram` is a list of instructions. Each instruction applies one transformation to the incoming
updates or to the results of earlier instructions. `run_leaf` is jitted. Under an outer `jit` it is
traced and lowered once for all these leaves (XLA inlines the calls, so they are fused as if they were
written out). In un-jitted code it costs one dispatch per leaf.
"""

import functools
import itertools
import weakref
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import (
    scalar_update,
    undescribed,
)
from gradtx._core.dtypes import cast_floating, compute_dtype, like, real_dtype
from gradtx._core.layout import Layout
from gradtx._core.new_state import checked_arrays
from gradtx._core.numbers import Digits, Number, called, may_be_argument
from gradtx._core.sums import total_of_each
from gradtx._core.tuned import At, Tuned


class Split(NamedTuple):
    """The static part of a transformation: its structure and its Python numbers, without its arrays.

    It is hashable, so it can be part of a compiled function's cache key: a transformation that is built
    again with equal numbers is not traced again. The numbers are Python floats while a step is traced.
    In `numbers`, None stands for an array, `...` for a number that is an argument (`numbers.py`), and
    `At` for a number that lies in the state (`tuned.py`).
    """

    structure: Any
    numbers: tuple[Any, ...]

    def join(self, arrays: Any, triples: Any, packed: Any = ()) -> Any:
        """The transformation, put together again.

        Args:
            arrays: an iterator over arrays; the transformation takes as many as it has.
            triples: an iterator over triples of numbers that are arguments, likewise.
            packed: what every `Tune` found, one array each.
        """
        leaves = []
        for x in self.numbers:
            if x is None:
                array = next(arrays)
                leaves.append(Number(*array) if isinstance(array, Digits) else array)
            elif x is ...:
                value, complement, log = next(triples)
                leaves.append(Number(value, complement, log))
            elif isinstance(x, At):
                row = packed[x.origin][x.place]
                leaves.append(Number(*row) if x.decay else row[0])
            else:
                leaves.append(x)
        return self.structure.unflatten(leaves)


def split(tx: Any, *, pack: bool = False) -> tuple[Split, list[Any]]:
    """The static part of a transformation, and its arrays.

    A number that lies in the state counts as an array; with `pack` it is an `At` of the static part.
    """
    leaves, structure = jax.tree.flatten(tx)
    numbers: list[Any] = []
    arrays: list[Any] = []
    for x in leaves:
        x = x.at if pack and isinstance(x, Tuned) else x
        is_number = isinstance(x, float | At)
        numbers.append(x if is_number else None)
        if not is_number:
            arrays.append(Digits(x.value, x.complement, x.log) if isinstance(x, Number) else x)
    return Split(structure, tuple(numbers)), arrays


class Instruction(NamedTuple):
    """One transformation in the program of a leaf.

    Attributes:
        tx: the static part of the transformation.
        args: indices into the list of the incoming updates followed by the instructions' results.
        layout: the layout of its state, or None for a transformation that cannot have a state.
        scheduled: the names of its fields that are schedules.
        reads_begin: whether the stage `Begin` computes something for it.
    """

    tx: Split
    args: tuple[int, ...]
    layout: Layout | None
    scheduled: tuple[str, ...]
    reads_begin: bool


class LeafProgram:
    """A list of instructions, the index of the result, and the indices of summands (`probes.py`).

    Equal programs are the same object.
    """

    def __init__(
        self, instructions: tuple[Instruction, ...], result: int, probes: tuple[int, ...] = ()
    ) -> None:
        self.instructions, self.result, self.probes = instructions, result, probes

    @functools.cached_property
    def transforms(self) -> list[Any]:
        """The transformation of every instruction, put together; None where it takes arguments.

        So it is put together once, and not for every shape.
        """
        made: list[Any] = []
        for x in self.instructions:
            known = {*map(type, x.tx.numbers)} <= {float}
            made.append(x.tx.structure.unflatten(x.tx.numbers) if known else None)
        return made

    @classmethod
    def of(
        cls, instructions: tuple[Instruction, ...], result: int, probes: tuple[int, ...] = ()
    ) -> "LeafProgram":
        """The program of these instructions: the same object for equal ones, so that `jit` reuses it."""
        key: list[Any] = [result, probes]
        for x in instructions:
            key += [*x[:2], None if x.layout is None else x.layout.key, *x[3:]]
        known = _programs.get(tuple(key))
        if known is None:
            _programs[tuple(key)] = known = cls(instructions, result, probes)
        return known

    @functools.cached_property
    def parametrized(self) -> "tuple[LeafProgram, tuple[float, ...]]":
        """The program that takes its numbers as arguments, and these numbers."""
        instructions, numbers = [], []
        for x in self.instructions:
            known = tuple(... if may_be_argument(n) else n for n in x.tx.numbers)
            numbers += [n for n, k in zip(x.tx.numbers, known, strict=True) if k is ...]
            instructions.append(x._replace(tx=x.tx._replace(numbers=known)))
        return LeafProgram.of(tuple(instructions), self.result, self.probes), tuple(numbers)


# A program is kept as long as a compiled function or an optimizer refers to it.
_programs: Any = weakref.WeakValueDictionary()


@functools.partial(jax.jit, static_argnums=0)
def run_leaf(
    program: LeafProgram,
    numbers: Any,
    packed: tuple[Any, ...],
    arrays: list[Any],
    from_begin: list[Any],
    updates: tuple[jax.Array, ...],
    cells: tuple[Any, ...],
    param: Any,
) -> tuple[jax.Array, tuple[Any, ...], tuple[Any, ...]]:
    """Run a program on one leaf, in the common dtype of its updates and its parameter.

    Args:
        program: the program.
        numbers: the triples of the numbers that are arguments, shape [numbers, 3], or None.
        packed: the numbers that lie in the state, as every `Tune` packs them.
        arrays: the arrays among the hyperparameters, instruction after instruction.
        from_begin: for each instruction with `reads_begin`, the values of its schedules and the values
            that `begin` hands to every leaf.
        updates: the incoming updates, one per stream that the program reads.
        cells: the arrays of the leaf's states, instruction after instruction, as a flat tuple:
            NamedTuples would make an un-jitted step a tenth slower.
        param: the parameter, or None if the parameters were not passed.

    Returns:
        The update, the new cells, and the sums of each probe.
    """
    dtype = compute_dtype(*updates, param)
    shape = updates[0].shape
    wide_arrays = iter(cast_floating(arrays, dtype) if arrays else ())
    triples = iter(() if numbers is None else numbers.astype(real_dtype(dtype)))
    packed = packed and tuple([x.astype(real_dtype(dtype)) for x in packed])
    begin_next = iter(cast_floating(from_begin, dtype) if from_begin else ())
    cells_next = iter(cast_floating(cells, dtype) if cells else ())
    values = [u.astype(dtype) for u in updates]
    param = None if param is None else param.astype(dtype)
    new_cells: list[Any] = []
    # A complex leaf is divided by its real second moment, which strict promotion would refuse.
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    with jax.numpy_dtype_promotion("standard") if is_complex else nullcontext():
        for x, tx in zip(program.instructions, program.transforms, strict=True):
            known, layout = tx is not None, x.layout
            tx = tx if known else x.tx.join(wide_arrays, triples, packed)
            schedule_values, begin_values = next(begin_next) if x.reads_begin else ((), None)
            if x.scheduled:
                tx = tx.with_values(dict(zip(x.scheduled, schedule_values, strict=True)))
            args = list(map(values.__getitem__, x.args))
            if layout is None or not layout.size:
                state = None if layout is None else layout.empty
                update, new = (
                    tx.apply_leaf(args, state, param, begin_values)
                    if known
                    else called(tx, "apply_leaf", args, state, param, begin_values)
                )
                if len(values) in program.probes:
                    values.append(update)
                    continue
                if new is not state and jax.tree.leaves(new):
                    raise undescribed(tx, new)
            else:
                old = list(itertools.islice(cells_next, len(layout.arrays)))
                filled = layout.fill(layout.arrays, old)
                update, new = (
                    tx.apply_leaf(args, filled, param, begin_values)
                    if known
                    else called(tx, "apply_leaf", args, filled, param, begin_values)
                )
                new_cells += old if new is filled else checked_arrays(tx, layout, new, old)
            if getattr(update, "shape", None) != shape:
                update = scalar_update(tx, update, shape, layout)
            values.append(update)
    probed = program.probes and tuple([values[i] for i in program.probes])
    sums = probed and total_of_each(probed)
    return values[program.result].astype(dtype), tuple(like(new_cells, list(cells))), sums


def first_scalars(tx: Any, layout: Layout) -> list[jax.Array]:
    """The shared scalars before the first step."""
    scalars = [start.fresh() for start in layout.shared]
    if scalars:
        state = tx.first_state(layout.fill(layout.scalars, scalars))
        first = layout.pick(layout.scalars, state)
        for i, (x, new) in enumerate(zip(scalars, first, strict=True)):
            # In a sweep that is not mapped yet, `new` has an axis, and the scalar stays.
            if new is not x and jnp.shape(new) == x.shape:
                scalars[i] = jnp.array(new, x.dtype, copy=True)
    return scalars

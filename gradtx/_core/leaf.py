"""The work on one leaf: one traced function for all leaves of the same shape, dtype and program.

A `LeafProgram` is a list of instructions, each a transformation applied to what comes in or to what
earlier instructions gave. Called inside another `jit` it is traced and lowered once and then only
called (XLA inlines the calls, so fusion is as if the program were written out); called eagerly it is
one dispatch per leaf.
"""

import functools
import itertools
import weakref
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import other_shape, other_state, scalar_update, undescribed
from gradtx._core.dtypes import cast_floating, compute_dtype, like, real_dtype
from gradtx._core.layout import Layout
from gradtx._core.numbers import Number, travels


class Split(NamedTuple):
    """A transformation in two parts: its structure with its Python numbers, and its arrays.

    The numbers keep their float64 value at trace time, and equal numbers give an equal structure: an
    equal transformation that was built again traces nothing. A number is `...` where it travels as an
    argument instead, see `numbers.py`.
    """

    structure: Any
    numbers: tuple[Any, ...]

    def join(self, arrays: Any, rows: Any) -> Any:
        """The transformation; `arrays` and `rows` are iterators that other instructions share."""
        leaves = []
        for x in self.numbers:
            if x is None:
                leaves.append(next(arrays))
            elif x is ...:
                value, complement, log = next(rows)
                leaves.append(Number(value, complement, log))
            else:
                leaves.append(x)
        return self.structure.unflatten(leaves)


def split(tx: Any) -> tuple[Split, list[Any]]:
    """The two parts of a transformation."""
    leaves, structure = jax.tree.flatten(tx)
    numbers: list[Any] = []
    arrays: list[Any] = []
    for x in leaves:
        is_number = isinstance(x, float)
        numbers.append(x if is_number else None)
        if not is_number:
            arrays.append(x)
    return Split(structure, tuple(numbers)), arrays


class Instruction(NamedTuple):
    """One transformation in a leaf's program.

    `args` are indices: what comes in first, then what instructions gave. `scheduled` names the fields
    whose values come from `begin`, and `told` says whether `begin` has something for the leaves.
    """

    tx: Split
    args: tuple[int, ...]
    layout: Layout | None
    scheduled: tuple[str, ...]
    told: bool


class LeafProgram:
    """Instructions, of which the last gives the result. Equal programs are one object."""

    def __init__(self, instructions: tuple[Instruction, ...], result: int) -> None:
        self.instructions, self.result = instructions, result

    @classmethod
    def of(cls, instructions: tuple[Instruction, ...], result: int) -> "LeafProgram":
        """The program of these instructions; one object for equal ones, so that `jit` knows it."""
        key: list[Any] = [result]
        for x in instructions:
            key += [*x[:2], None if x.layout is None else x.layout.key, *x[3:]]
        known = _programs.get(tuple(key))
        if known is None:
            _programs[tuple(key)] = known = cls(instructions, result)
        return known

    @functools.cached_property
    def freed(self) -> "tuple[LeafProgram, tuple[float, ...]]":
        """The program with its numbers as arguments, and the numbers."""
        instructions, numbers = [], []
        for x in self.instructions:
            free = tuple(... if n is not None and travels(n) else n for n in x.tx.numbers)
            numbers += [n for n, f in zip(x.tx.numbers, free, strict=True) if f is ...]
            instructions.append(x._replace(tx=x.tx._replace(numbers=free)))
        return LeafProgram.of(tuple(instructions), self.result), tuple(numbers)


# A program lives as long as a compiled function or an optimizer that uses it.
_programs: Any = weakref.WeakValueDictionary()


@functools.partial(jax.jit, static_argnums=0)
def run_leaf(
    program: LeafProgram,
    numbers: Any,
    arrays: list[Any],
    told: list[Any],
    updates: tuple[jax.Array, ...],
    cells: tuple[Any, ...],
    param: Any,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """The one function that every leaf goes through, where its dtype is decided.

    Args:
        program: what is done.
        numbers: rows of the numbers that travel as arguments, or None.
        arrays: the arrays among the hyperparameters.
        told: what `begin` has for the leaves, for each instruction with something.
        updates: what comes in.
        cells: the arrays of the leaf's states, instruction after instruction. State crosses the border
            as a flat tuple: eagerly, NamedTuples would cost a tenth of the step.
        param: the parameter, or None.
    """
    dtype = compute_dtype(*updates, param)
    shape = updates[0].shape
    wide_arrays = iter(cast_floating(arrays, dtype) if arrays else ())
    rows = iter(() if numbers is None else numbers.astype(real_dtype(dtype)))
    told_next = iter(cast_floating(told, dtype) if told else ())
    cells_next = iter(cast_floating(cells, dtype) if cells else ())
    values = [u.astype(dtype) for u in updates]
    param = None if param is None else param.astype(dtype)
    new_cells: list[Any] = []
    # A complex leaf mixes with its real second moment on purpose; a real one has nothing to promote.
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    with jax.numpy_dtype_promotion("standard") if is_complex else nullcontext():
        for x in program.instructions:
            tx, layout = x.tx.join(wide_arrays, rows), x.layout
            scheduled, now = next(told_next) if x.told else ((), None)
            if x.scheduled:
                tx = tx.with_values(dict(zip(x.scheduled, scheduled, strict=True)))
            args = list(map(values.__getitem__, x.args))
            if layout is None or not layout.size:
                state = None if layout is None else layout.empty
                update, new = tx.apply_leaf(args, state, param, now)
                if new is not state and jax.tree.leaves(new):
                    raise undescribed(tx, new)
            else:
                old = list(itertools.islice(cells_next, len(layout.arrays)))
                update, new = tx.apply_leaf(args, layout.fill(layout.arrays, old), param, now)
                new_cells += picked(tx, layout, new, old)
            if getattr(update, "shape", None) != shape:
                update = scalar_update(tx, update, shape, layout)
            values.append(update)
    return values[program.result].astype(dtype), tuple(like(new_cells, list(cells)))


def picked(tx: Any, layout: Layout, new: Any, old: list[Any]) -> list[Any]:
    """The arrays of a unit's new state, which must have the shapes of the old ones."""
    try:
        arrays = layout.pick(layout.arrays, new)
    except ValueError:
        raise other_state(tx, layout, new) from None
    for i, o in enumerate(old):
        if getattr(arrays[i], "shape", None) != o.shape:
            if o.shape or not isinstance(arrays[i], int | float | complex):
                raise other_shape(tx, layout.names[layout.arrays[i]], arrays[i], o)
            arrays[i] = jnp.asarray(arrays[i])
    return arrays

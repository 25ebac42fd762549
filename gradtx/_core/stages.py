"""The stages of a lowered transformation, which a step runs one after the other.

    Measuring calls `measure` of one transformation, which sees the whole tree
    Begin     calls `begin` of several transformations, and evaluates their schedules
    Tune      computes the numbers that `tunable` keeps in the state (`tune.py`)
    Pass      calls one function per leaf for several elementwise transformations (`passes.py`)
    Tree      calls `update_tree` of one transformation of the whole tree (`whole.py`)

`_matrices/stage.py` adds a stage that brings matrices of several leaves together. Every stage has a
method `run`, which reads and writes a `Frame`: the arrays that one step works on.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx._core.authors import (
    Missing,
    described,
    first_non_array,
    raise_for_placeholder,
    wrong_begin,
)
from gradtx._core.layout import Layout
from gradtx._core.leaf import first_scalars, split
from gradtx._core.new_state import checked_scalars, old_scalars
from gradtx._core.numbers import called, plain
from gradtx._core.schedule import at_step, next_count
from gradtx._core.sharding import varying_like
from gradtx._core.trees import PyTree
from gradtx._core.tuned import holds_tuned, settled, settled_tx, started


class Frame:
    """The arrays that one step works on.

    Args:
        low: the lowering, which knows the structure and the paths of the tree.
        cells: the arrays of the state, as a flat list that the stages overwrite.
        updates: the gradients, which are register 0.
        params: the parameters, or None if they were not passed.
        extra: the further keyword arguments of `update`.
        parametrized: whether hyperparameters are arguments of the compiled functions (`numbers.py`).

    `registers` holds lists of updates, one array per leaf. `measured` holds what each `Measuring` found,
    `from_begin` what `Begin` computed for the leaves of each call, and `found` the numbers that each
    `Tune` read from the state.
    """

    def __init__(
        self,
        low: Any,
        cells: list[Any],
        updates: list[Any],
        params: Any,
        extra: Any,
        parametrized: bool,
    ) -> None:
        self.low, self.cells, self.extra, self.parametrized = low, cells, extra, parametrized
        self.registers: list[list[Any]] = [updates] + [[]] * (low.registers - 1)
        self.params = params
        self.from_begin: dict[Any, Any] = {}
        self.measured: dict[Any, Any] = {}
        self.sums: dict[Any, dict[int, Any]] = {}
        self.found: dict[Any, list[Any]] = {}
        self.packed: list[Any] = []  # the same numbers, one array for each `Tune`

    def tree(self, leaves: list[Any], owned: list[bool]) -> PyTree:
        """A tree of the leaves with True in `owned`, and None elsewhere."""
        return self.low.tree([x if own else None for x, own in zip(leaves, owned, strict=True)])


class Call:
    """One elementwise or matrixwise transformation in a program: its leaves and its cells.

    Attributes:
        tx: the transformation.
        variants: the transformation of every leaf if they differ, else None.
        layout: the layout of the state of one leaf.
        owned: the indices of the leaves that it updates.
        slots: for each array in the layout, the number of the first leaf's cell; the cells of the other
            leaves follow.
        cells: the numbers of the cells of the shared scalars.
        measured: the stage that calls `measure`, if there is one.
        scheduled: the names of the hyperparameters that are schedules.
        step: the number of the cell with the step that schedules are evaluated at, or -1.
        counts: whether that cell is advanced here, and not by `begin` of the transformation.
        begins: whether there is something to compute once per step.
    """

    measured: "Measuring | None" = None
    scheduled: tuple[str, ...] = ()
    step = -1
    counts = begins = False

    def __init__(self, tx: Any, variants: Any, layout: Layout, owned: list[int]) -> None:
        self.tx, self.variants, self.layout, self.owned = tx, variants, layout, owned
        self.slots: list[int] = []
        self.cells: list[int] = []

    def init(self, cells: list[Any], params: list[Any], absent: list[Any]) -> None:
        """Fill the cells before the first step."""
        for first in self.slots:
            cells[first : first + len(params)] = absent
        every = started(self.tx)
        for i in self.owned:
            tx = every if self.variants is None else started(self.variants[i])
            # This is not jitted, since `full_like` keeps the sharding of an array, but not of a tracer.
            state = tx.init_unit(params[i])
            arrays = self.layout.first_arrays(state, self.tx, params[i].shape)
            for k, (first, x) in enumerate(zip(self.slots, arrays, strict=True)):
                shares = x is params[i] or any(x is other for other in arrays[:k])
                x = jnp.array(x, copy=True) if shares else x
                # The state of a part of a matrix varies over those mesh axes alone that shard the state.
                like = () if getattr(tx, "is_part", False) else (params[i],)
                cells[first + i] = varying_like(x, *like, *jax.tree.leaves(tx))
        numbers = jax.tree.leaves(every)
        seen = [params[i] for i in self.owned] if self.tx.measures else []
        for number, x in zip(self.cells, first_scalars(every, self.layout), strict=True):
            # Inside `shard_map`, a scalar varies over the mesh axes over which the numbers vary. A count
            # does not depend on the numbers, and several transformations may share its cell.
            cells[number] = varying_like(x, *seen, *(() if x.dtype == jnp.int32 else numbers))
        if self.counts:
            cells[self.step] = jnp.int32(0)


class Measuring:
    """The stage that calls `measure` of one transformation, before any of its leaves is updated."""

    def __init__(self, tx: Any, register: int, owned: list[bool]) -> None:
        self.tx, self.register, self.owned = tx, register, owned
        self.tuned = holds_tuned(tx)

    def run(self, frame: Frame) -> None:
        updates = frame.registers[self.register] if self.register >= 0 else [None] * len(self.owned)
        params: Any = Missing(self.tx)
        if frame.params is not None:
            params = frame.tree(frame.params, self.owned)
        try:
            tx = settled_tx(self.tx, frame.found) if self.tuned else self.tx
            known = tx.measure(frame.tree(updates, self.owned), params, frame.extra)
        except (TypeError, ValueError) as error:
            raise_for_placeholder(error, params)
            raise
        frame.measured[self] = known


class Begin:
    """The stage that calls `begin` and evaluates schedules, for several calls in one traced function."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.arrays: list[Any] = []
        work: list[Any] = []
        layouts: list[Layout] = []
        for call in calls:
            key, arrays = split(call.tx)
            self.arrays.append(arrays)
            layouts.append(call.layout)
            work.append((key, call.layout.key, call.scheduled, call.counts))
        self.work = tuple(work)
        self.program = _BeginProgram(self.work, tuple(layouts))

    def run(self, frame: Frame) -> None:
        cells = frame.cells
        shared = [[cells[number] for number in call.cells] for call in self.calls]
        steps = [None if call.step < 0 else cells[call.step] for call in self.calls]
        measured = [call.measured and frame.measured[call.measured] for call in self.calls]
        arrays = [settled(own, frame.found) if own else own for own in self.arrays]
        inputs = self.program, arrays, shared, steps, measured
        try:
            # The numbers are constants of the jitted function, so it is not used where they change.
            results = _begin(*inputs) if frame.parametrized else _begin_jitted(*inputs)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            if any(isinstance(x, Tracer) for x in jax.tree.leaves(inputs[1:])):
                raise
            results = _begin(*inputs)  # un-jitted, a schedule may have a Python `if` on the step
        except TypeError:
            self._check_values(inputs)
            raise
        for call, (new, step, from_begin) in zip(self.calls, results, strict=True):
            for number, x in zip(call.cells, new, strict=True):
                cells[number] = x
            if call.counts:
                cells[call.step] = step
            frame.from_begin[call] = from_begin

    def _check_values(self, inputs: Any) -> None:
        """Raise `TypeError` if `begin` returned values that are not arrays."""
        for call, (_, _, (_, values)) in zip(self.calls, _begin(*inputs), strict=True):
            if wrong := first_non_array(values):
                raise TypeError(
                    f"`begin` of `{type(call.tx).__name__}` returned {described(wrong[0])} among the "
                    "values for every leaf. Return a number, an array, or a tuple of these; keep "
                    "anything else in a field of the class."
                )


class _BeginProgram:
    """The static part of a `Begin`, hashable so that equal ones share a compiled function."""

    def __init__(self, work: tuple[Any, ...], layouts: tuple[Layout, ...]) -> None:
        self.work, self.layouts = work, layouts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BeginProgram) and self.work == other.work

    def __hash__(self) -> int:
        return hash(self.work)


def _begin(
    program: _BeginProgram, arrays: Any, shared: Any, steps: Any, measured: Any
) -> list[Any]:
    results = []
    for (key, _, scheduled, counts), layout, own, scalars, step, known in zip(
        program.work, program.layouts, arrays, shared, steps, measured, strict=True
    ):
        tx = key.join(iter(own), iter(()))
        old = old_scalars(tx, layout, scalars)
        schedule_values = tuple(
            at_step(getattr(tx, name), step, f"{type(tx).__name__}({name}=...)")
            for name in scheduled
        )
        if scheduled:
            tx = tx._with(**dict(zip(scheduled, schedule_values, strict=True)))
        filled = layout.fill(layout.scalars, old)
        result = called(tx, "begin", filled, known) if own else tx.begin(filled, known)
        if type(result) is not tuple or len(result) != 2:
            raise wrong_begin(tx, result)
        new, values = plain(result) if own else result
        advanced = checked_scalars(tx, layout, new, old)
        next_step = next_count(step) if counts else None
        results.append((advanced, next_step, (schedule_values, values)))
    return results


_begin_jitted = jax.jit(_begin, static_argnums=0)

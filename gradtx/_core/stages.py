"""The stages of a lowered transformation, in the order in which a step runs them.

Measure   what one transformation has to know of the whole tree
Begin     what all units share: counts, schedules, factors; computed once per step
Pass      one function per leaf, for all elementwise neighbours together
Tree      a transformation of the whole tree
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
    wrong_scalar,
)
from gradtx._core.dtypes import cast
from gradtx._core.layout import Layout
from gradtx._core.leaf import split
from gradtx._core.schedule import at_step, next_count
from gradtx._core.sharding import varying_like
from gradtx._core.trees import PyTree


class Frame:
    """One step: the cells of the state, the registers, and what was passed to `update`.

    `free` says whether numbers travel as arguments (see `numbers.py`).
    """

    def __init__(
        self, low: Any, cells: list[Any], updates: list[Any], params: Any, extra: Any, free: bool
    ) -> None:
        self.low, self.cells, self.extra, self.free = low, cells, extra, free
        self.registers: list[list[Any]] = [updates] + [[]] * (low.registers - 1)
        self.params = params
        self.told: dict[Any, Any] = {}
        self.measured: dict[Any, Any] = {}

    def tree(self, leaves: list[Any], owned: list[bool]) -> PyTree:
        """A tree of the leaves that a transformation owns, None elsewhere."""
        return self.low.tree([x if own else None for x, own in zip(leaves, owned, strict=True)])


class Call:
    """A unit's place in a program: which leaves it owns and which cells of the state.

    Attributes:
        tx: the transformation.
        variants: the transformation of every leaf, where they differ.
        layout: the structure of the state of one leaf.
        slots: for each array of the state, the cell of the first leaf.
        cells: the cells of the shared scalars.
        step: the cell of the step that schedules see, or -1; `counts` says whether it is advanced here.
        begins: whether there is anything to do once per step.
    """

    measured: "Measure | None" = None
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
        for i in self.owned:
            tx = self.tx if self.variants is None else self.variants[i]
            # Not under jit: `full_like` of a committed array keeps its sharding, a traced one loses it.
            state = tx.init_unit(params[i])
            arrays = self.layout.pick(self.layout.arrays, state)
            for k, (first, x) in enumerate(zip(self.slots, arrays, strict=True)):
                shares = x is params[i] or any(x is other for other in arrays[:k])
                x = jnp.array(x, copy=True) if shares else x
                cells[first + i] = varying_like(x, params[i], *jax.tree.leaves(tx))
        numbers = jax.tree.leaves(self.tx)
        seen = [params[i] for i in self.owned] if self.tx.measures else []
        for number, start in zip(self.cells, self.layout.shared, strict=True):
            x = start.fresh()
            # A count does not depend on numbers, and may be kept for several transformations.
            cells[number] = varying_like(x, *seen, *(() if x.dtype == jnp.int32 else numbers))
        if self.counts:
            cells[self.step] = jnp.int32(0)


class Measure:
    """What a transformation has to know of the whole tree before any leaf is updated."""

    def __init__(self, tx: Any, register: int, owned: list[bool]) -> None:
        self.tx, self.register, self.owned = tx, register, owned

    def run(self, frame: Frame) -> None:
        updates = frame.registers[self.register] if self.register >= 0 else [None] * len(self.owned)
        params: Any = Missing(self.tx)
        if frame.params is not None:
            params = frame.tree(frame.params, self.owned)
        try:
            known = self.tx.measure(frame.tree(updates, self.owned), params, frame.extra)
        except (TypeError, ValueError) as error:
            raise_for_placeholder(error, params)
            raise
        frame.measured[self] = known


class Begin:
    """What the units of several calls share, computed once per step in one traced function."""

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
        self.program = _Shared(self.work, tuple(layouts))

    def run(self, frame: Frame) -> None:
        cells = frame.cells
        shared = [[cells[number] for number in call.cells] for call in self.calls]
        steps = [None if call.step < 0 else cells[call.step] for call in self.calls]
        measured = [call.measured and frame.measured[call.measured] for call in self.calls]
        inputs = self.program, self.arrays, shared, steps, measured
        try:
            results = _begin(*inputs) if frame.free else _begin_jitted(*inputs)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            if any(isinstance(x, Tracer) for x in jax.tree.leaves(inputs[1:])):
                raise
            results = _begin(*inputs)  # a schedule with a Python `if` works where the step is known
        except TypeError:
            self._check_told(inputs)
            raise
        for call, (new, step, told) in zip(self.calls, results, strict=True):
            for number, x in zip(call.cells, new, strict=True):
                cells[number] = x
            if call.counts:
                cells[call.step] = step
            frame.told[call] = told

    def _check_told(self, inputs: Any) -> None:
        """Raise `TypeError` if a `begin` tells its units something that is not an array."""
        for call, (_, _, (_, now)) in zip(self.calls, _begin(*inputs), strict=True):
            if wrong := first_non_array(now):
                raise TypeError(
                    f"`begin` of `{type(call.tx).__name__}` returned {described(wrong[0])} for what its "
                    "units are told. Return a number, an array, or a tuple of these; keep anything else "
                    "in a field of the class."
                )


class _Shared:
    """The shared work of several calls, equal and hashed by what is to be done."""

    def __init__(self, work: tuple[Any, ...], layouts: tuple[Layout, ...]) -> None:
        self.work, self.layouts = work, layouts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shared) and self.work == other.work

    def __hash__(self) -> int:
        return hash(self.work)


def _begin(program: _Shared, arrays: Any, shared: Any, steps: Any, measured: Any) -> list[Any]:
    results = []
    for (key, _, scheduled, counts), layout, own, scalars, step, known in zip(
        program.work, program.layouts, arrays, shared, steps, measured, strict=True
    ):
        tx = key.join(iter(own), iter(()))
        old = [
            cast(jnp.asarray(x), start.dtype)
            for x, start in zip(scalars, layout.starts, strict=True)
        ]
        values = tuple(
            at_step(getattr(tx, name), step, f"{type(tx).__name__}({name}=...)")
            for name in scheduled
        )
        if scheduled:
            tx = tx._with(**dict(zip(scheduled, values, strict=True)))
        result = tx.begin(layout.fill(layout.scalars, old), known)
        if type(result) is not tuple or len(result) != 2:
            raise wrong_begin(tx, result)
        new, now = result
        moved = _advanced(tx, layout, new, old)
        results.append((moved, next_count(step) if counts else None, (values, now)))
    return results


_begin_jitted = jax.jit(_begin, static_argnums=0)


def _advanced(tx: Any, layout: Layout, new: Any, old: list[jax.Array]) -> list[jax.Array]:
    """The new shared scalars, in the dtypes and shapes of the old ones."""
    try:
        scalars = layout.pick(layout.scalars, new)
    except (ValueError, TypeError):
        raise wrong_begin(tx, new, first=True) from None
    for i, (n, o) in enumerate(zip(scalars, old, strict=True)):
        number = not o.shape and isinstance(n, int | float)
        if not number and getattr(n, "shape", None) != o.shape:
            raise wrong_scalar(tx, layout.names[layout.scalars[i]], n, o)
    return [
        varying_like(cast(jnp.asarray(n), o.dtype), o) for n, o in zip(scalars, old, strict=True)
    ]

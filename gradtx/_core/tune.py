"""`Tune`, the stage that reads from the state the numbers that `tunable` keeps there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.dtypes import cast, scalar_dtype
from gradtx._core.numerics import log
from gradtx._core.schedule import at_step, next_count
from gradtx._core.sharding import replacing, varying_like
from gradtx._core.trees import Structure
from gradtx._core.tuned import Formula, Origin, evaluate, settled_tree, started


class Tune:
    """The stage that computes, once per step, every number that lies in the state.

    It also records in the state the value of this step of every hyperparameter that is a schedule.

    Args:
        origin: the numbers, and what is computed from them.
        names: the names of the numbers, for messages.
        dtype: the dtype of the numbers in the state.

    Attributes:
        cells: the numbers of the cells of the numbers.
        step: the number of the cell that counts steps.
        schedules: the cells of the recorded values, and for each its schedule and the schedule's name.
    """

    def __init__(self, origin: Origin, names: list[str], dtype: Any) -> None:
        self.origin, self.names, self.dtype = origin, names, jnp.dtype(dtype)
        self.cells: list[int] = []
        self.step = -1
        self.schedules: list[tuple[int, Any, str]] = []
        self._program: Any = None

    def init(
        self, cells: list[Any], params: list[Any], absent: list[Any], structure: Structure
    ) -> None:
        """Fill its cells before the first step."""
        for number, start in zip(self.cells, self.origin.starts, strict=True):
            cells[number] = varying_like(self._fresh(start), start)
        for number, schedule, name in self.schedules:
            cells[number] = self._fresh(at_step(started(schedule), 0, name))
        cells[self.step] = jnp.int32(0)

    def run(self, frame: Any) -> None:
        cells = frame.cells
        if self._program is None:
            self._program = self._compiled()
        numbers = [self._checked(cells[c], n) for c, n in zip(self.cells, self.names, strict=True)]
        frame.found[self.origin], packed = evaluate(
            self._program[0], numbers, *self._program[1:], self.origin.constants
        )
        frame.packed.append(packed)
        for number, x in zip(self.cells, numbers, strict=True):
            cells[number] = x
        step = cells[self.step]
        for number, schedule, name in self.schedules:
            value = at_step(settled_tree(schedule, frame.found), step, name)
            old = cells[number]
            cells[number] = replacing(old, cast(value, self.dtype))
        cells[self.step] = next_count(jnp.asarray(step))

    def _compiled(self) -> tuple[Any, ...]:
        """The formulas, and what `evaluate` needs to know about the values before the first step."""
        formulas, first = [], []
        for x in self.origin.values:
            known = isinstance(x.start, float)
            formulas.append(Formula(x.expression, x.decay, known))
            first.append((x.start, 1 - x.start, log(x.start)) if known else (0.0, 0.0, 0.0))
        starts = [
            np.asarray(x, self.dtype) if isinstance(x, float) else None for x in self.origin.starts
        ]
        return tuple(formulas), starts, np.array(first, scalar_dtype()).reshape(len(first), 3)

    def _fresh(self, x: Any) -> jax.Array:
        """A copy of `x`, so that the state does not share a buffer with the transformation."""
        return jnp.array(x, self.dtype, copy=True)

    def _checked(self, x: Any, name: str) -> jax.Array:
        """A number as the state has to hold it, also if the user put a Python number there."""
        if getattr(x, "dtype", None) == self.dtype and not x.shape and isinstance(x, jax.Array):
            return x if not x.weak_type else cast(x, self.dtype)
        if np.ndim(x) or not jnp.issubdtype(jnp.result_type(x), jnp.number):
            raise ValueError(
                f"The state of `tunable` must hold one number for `{name}`, not {described(x)}."
            )
        return jnp.asarray(x, self.dtype)

"""Hyperparameters that are functions of the step: finding them, and asking for their values."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._core.authors import described
from gradtx._core.dtypes import scalar


class ScheduledState(NamedTuple):
    """The step that the schedules of a transformation see (0 at the first), and its own state."""

    count: Any
    inner: Any


def at_step(schedule: Any, step: Any, name: str = "a schedule") -> Any:
    """The value of a hyperparameter at a step (0 at the first): numbers and arrays are constant.

    Schedules may come from anywhere, so they run under standard dtype promotion. Raises `TypeError`
    for a value that is not a real number, and `ValueError` for one with axes.
    """
    if not callable(schedule):
        return schedule
    if not isinstance(step, Tracer):
        step = np.asarray(step, np.int32)[
            ()
        ]  # a known step, so that a schedule computes on the host
    with jax.numpy_dtype_promotion("standard"):
        try:
            value: Any = schedule(step)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            error.add_note(
                f"This is the schedule in `{name}`, whose step is traced. Write "
                "`jnp.where(step < n, a, b)` instead of a Python `if`, and `jnp.` instead of `np.` and "
                "`math.`."
            )
            raise
        try:
            array = jnp.asarray(value)
            real = not jnp.iscomplexobj(array)
        except (TypeError, ValueError):
            array, real = None, False
        if array is None or not real:
            raise TypeError(
                f"The schedule in `{name}` must return one real number for a step; it returned "
                f"{described(value)}."
            )
        if array.ndim:
            raise ValueError(
                f"The schedule in `{name}` must return one number for a step; it returned an array of "
                f"shape {array.shape}."
            )
        return scalar(value)


def next_count(count: Any) -> jax.Array:
    """The count after this step, which stays at its largest value rather than wrap around."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + np.int32(1), count)

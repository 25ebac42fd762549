"""Schedules: hyperparameters that are functions of the step, and how they are evaluated."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._core.authors import described
from gradtx._core.dtypes import scalar
from gradtx._core.hyperparameters import wrong_signature


class ScheduledState(NamedTuple):
    """The state of a transformation with schedules.

    Attributes:
        count: the number of steps before this one, at which schedules are evaluated.
        inner: the state of the transformation itself.
    """

    count: Any
    inner: Any


def at_step(schedule: Any, step: Any, name: str = "a schedule") -> Any:
    """The value of a hyperparameter at a step.

    A schedule may be a function of another library, so it runs under standard dtype promotion.

    Args:
        schedule: the hyperparameter. If it is a number or an array, it is returned unchanged.
        step: the number of steps before this one, 0 at the first.
        name: the name of the hyperparameter in messages.

    Raises:
        TypeError: if the schedule does not take the step as its only argument, or if it returns anything
            but a real number.
        ValueError: if the schedule returns an array with axes.
    """
    if not callable(schedule):
        return schedule
    if not isinstance(step, Tracer):
        # As a NumPy scalar, so that a schedule of Python arithmetic is computed on the host.
        step = np.asarray(step, np.int32)[()]
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
        except TypeError as error:
            if problem := wrong_signature(schedule, name):
                raise TypeError(problem) from error
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
    """The count plus one, except that it stays at the largest int32 instead of overflowing."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + np.int32(1), count)

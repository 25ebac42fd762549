"""What a hyperparameter may be: a real number, an array of real numbers, or a schedule.

Everything that can be known when a value is made is checked then. A schedule is a function of the step,
so only its signature is looked at.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.limits import is_free_to_read
from gradtx._core.static import show, static


def check_hyperparameter(
    value: Any, where: str, *, schedules: bool = True, bounded: bool = False
) -> None:
    """Refuse what a hyperparameter cannot be.

    Args:
        value: the content of a data field, or a tuple or mapping of several hyperparameters.
        where: the field in messages, such as `"sgd(learning_rate=...)"`.
        schedules: whether a schedule is accepted.
        bounded: whether the field has limits, which refuse NaN as well.

    Raises:
        TypeError: if it is an array of bools or of complex numbers, or a function of other arguments
            than a schedule's; or a schedule where none is accepted.
        ValueError: if it is not a number (NaN), or an array that contains NaN.
    """
    if isinstance(value, float):
        if value != value and not bounded:
            raise ValueError(f"`{where}` is NaN. Pass a number.")
    elif isinstance(value, np.ndarray | jax.Array):
        _check_array(value, where, bounded)
    elif isinstance(value, Mapping):
        for key, x in value.items():
            place = f"{where.removesuffix('...)')}{{{key!r}: ...}})"
            check_hyperparameter(x, place, schedules=schedules)
    elif type(value) is tuple:  # a transformation is a tuple as well
        for x in value:
            if not hasattr(x, "_unflatten"):  # the class itself looks at the values in its tuple
                check_hyperparameter(x, where, schedules=schedules)
    elif isinstance(value, tuple) and hasattr(value, "_unflatten"):
        raise TypeError(
            f"`{where}` must hold numbers, arrays or schedules, not {described(value)}."
        )
    elif callable(value):
        if not schedules:
            raise TypeError(f"`{where}` cannot be a schedule. Pass a number or an array.")
        function = value.value if isinstance(value, static) else value
        if isinstance(function, type):
            raise TypeError(
                f"`{where}` must be a number, an array or a schedule (a function of the step), not "
                f"{described(function)}."
            )
        if problem := wrong_signature(function, where):
            raise TypeError(problem)


def _check_array(value: Any, where: str, bounded: bool) -> None:
    dtype = value.dtype
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not real:
        raise TypeError(
            f"`{where}` must be real, and this array has the dtype {dtype}. Pass an array of floating "
            "numbers, or a Python number."
        )
    if not bounded and jnp.issubdtype(dtype, jnp.floating) and is_free_to_read(value):
        entries = np.asarray(value)
        unknown = entries != entries
        if unknown.any():
            place = ", ".join(map(str, np.argwhere(unknown)[0]))
            which = f"contains NaN, first at the entry [{place}]" if entries.ndim else "is NaN"
            raise ValueError(f"`{where}` {which}. Pass numbers.")


def wrong_signature(schedule: Any, where: str) -> str:
    """A message if a schedule cannot be called with the step alone, or an empty string."""
    try:
        signature = inspect.signature(schedule.value if isinstance(schedule, static) else schedule)
    except (TypeError, ValueError):  # a function that has no signature in Python
        return ""
    try:
        signature.bind(None)
    except TypeError:
        return (
            f"The schedule in `{where}` must take one argument, the step; `{show(schedule)}` takes "
            f"`{signature}`."
        )
    return ""

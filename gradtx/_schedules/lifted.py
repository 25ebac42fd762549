"""Arithmetic with hyperparameters, each of which may be a number, an array or a schedule.

The definition of an optimizer sometimes needs a number that is made of other numbers, such as
$b_1 / b_2$. Whoever uses the optimizer may have passed a schedule, an array of a sweep, or a number that
`tunable` keeps in the state. `lifted` computes with all of them, so that a recipe has no cases of its
own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar
from gradtx._core.tuned import Tuned
from gradtx._core.values import Hyper
from gradtx._schedules.functions import FUNCTIONS
from gradtx._schedules.schedule import combined


def lifted(sign: str, *operands: Any) -> Hyper:
    r"""The result of an operator between hyperparameters, which is a hyperparameter again.

    Python numbers give a Python number, which is computed in float64. An array gives an array, and a
    schedule gives the schedule that has the result at every step. A quotient is 0 where its denominator
    is 0. Two arrays of different shapes, which hold the values of two sweeps, give an array with an
    entry for each pair.

    Args:
        sign: "+", "-", "*", "/", "raised_to", "min" or "max". With a single operand, "-" is the negative
            number.
        operands: one or two numbers, arrays, schedules or functions of the step.

    >>> import gradtx
    >>> lifted("/", 0.5, 0.25), lifted("-", 1, gradtx.linear_schedule(0.9, 0.0, 10))
    (2.0, 1.0 - linear_schedule(0.9, 0.0, 10))
    """
    if any(callable(x) for x in operands):
        return combined(sign, operands)
    if any(isinstance(x, Tuned) for x in operands):
        return _OF_TUNED[sign](*operands)
    if all(isinstance(x, int | float) for x in operands):
        return _of_numbers(sign, *map(float, operands))
    return FUNCTIONS[sign](*_alike(*operands))


def _of_numbers(sign: str, a: float, b: float | None = None) -> float:
    if b is None:
        return -a
    match sign:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a / b if b else 0.0
        case "raised_to":
            return float(np.float64(a) ** b)
        case "min":
            return min(a, b)
        case _:
            return max(a, b)


# The value of a number that lies in the state is not known here: `min` and `max` raise the error that
# says so, since Python's operators compare.
_OF_TUNED: dict[str, Any] = {
    "+": lambda a, b: a + b,
    "-": lambda a, *b: a - b[0] if b else -a,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "raised_to": lambda a, b: a**b,
    "min": min,
    "max": max,
}


def _alike(*operands: Any) -> tuple[Any, ...]:
    """Arrays of one dtype whose shapes agree, or Python numbers beside an array."""
    arrays = [x for x in operands if isinstance(x, np.ndarray | jax.Array)]
    if len({x.dtype for x in arrays}) > 1:
        operands = tuple(map(scalar, operands))
    if len(arrays) == 2 and all(x.ndim for x in arrays) and arrays[0].shape != arrays[1].shape:
        a, b = operands
        return jnp.reshape(a, (*a.shape, *(1,) * b.ndim)), jnp.reshape(
            b, (*(1,) * a.ndim, *b.shape)
        )
    return operands

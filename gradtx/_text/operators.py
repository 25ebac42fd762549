"""The operators of texts: how tightly they bind, what they compute, and what they can stand between."""

import operator
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from gradtx._compose.rules import Rule
from gradtx._core.transform import Transform
from gradtx._core.values import Value
from gradtx._schedules.schedule import Schedule

# For each operator how tightly it binds, and its function.
BETWEEN: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "|": (0, operator.or_),
    "&": (1, operator.and_),
    "+": (2, operator.add),
    "-": (2, operator.sub),
    "*": (3, operator.mul),
    "/": (3, operator.truediv),
}
BEFORE: dict[str, Callable[[Any], Any]] = {
    "+": operator.pos,
    "-": operator.neg,
    "~": operator.invert,
}
_NUMBERS = (int, float, complex)


def between_problem(sign: str, left: Any, right: Any) -> str:
    """Why an operator cannot stand between two operands, or an empty string.

    Args:
        sign: the operator.
        left: the operand before it.
        right: the operand after it.
    """
    if sign in "|&":
        rules = [isinstance(x, Rule) for x in (left, right)]
        functions = [callable(x) and not isinstance(x, Value) for x in (left, right)]
        fits = any(rules) and all(map(operator.or_, rules, functions))
        return "" if fits else "can stand only between rules"
    if all(type(x) in _NUMBERS for x in (left, right)):
        return ""
    known = all(type(x) in _NUMBERS or _is_operand(x) for x in (left, right))
    if known and any(isinstance(x, Transform | Schedule) for x in (left, right)):
        return ""
    return "can stand only between transformations, schedules and numbers"


def before_problem(sign: str, value: Any) -> str:
    """Why an operator cannot stand before an operand, or an empty string.

    Args:
        sign: the operator.
        value: the operand.
    """
    if sign == "~":
        return "" if isinstance(value, Rule) else "can stand only before a rule"
    if type(value) in _NUMBERS or (isinstance(value, Schedule) and sign == "-"):
        return ""
    return "can stand only before a number or a schedule"


def _is_operand(x: Any) -> bool:
    return isinstance(x, Value | jax.Array | np.ndarray) or callable(x)

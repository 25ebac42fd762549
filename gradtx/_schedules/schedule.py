"""`Schedule`, the base class of schedules, and arithmetic with schedules."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.static import show
from gradtx._core.tuned import Tuned
from gradtx._core.values import Fixed, Hyper, Value
from gradtx._schedules.functions import FUNCTIONS
from gradtx._schedules.steps import counted_from


class Schedule(Value):
    r"""A hyperparameter that changes during training: a function of the step, which is a value.

    Subclasses provide `__call__(count)`, which returns a scalar for the number of steps before this one.
    At the first step that number is 0. Their fields are numbers, annotated `Hyper`. A field that holds
    other schedules is annotated with a tuple, `tuple[Hyper, ...]`.

    Schedules are added, subtracted, multiplied and divided, by each other, by numbers and by any
    function of the step. A quotient is 0 where its denominator is 0. What results prints as the code
    that makes it. Numbers of steps, which are the fields whose names end in `steps`, `begin` or
    `boundaries`, print without a decimal point.

    The property `horizon` is the number of steps in which a schedule shows its shape, or None.

    Raises:
        TypeError: if a field for a number is a schedule.

    >>> import gradtx
    >>> schedule = 2 * gradtx.cosine_decay_schedule(0.5, 100)
    >>> schedule
    2.0 * cosine_decay_schedule(0.5, 100)
    >>> float(schedule(0)), float(schedule(100))
    (1.0, 0.0)
    >>> class halving(gradtx.Schedule):
    ...     peak: gradtx.Hyper
    ...     half_life_steps: gradtx.Hyper
    ...
    ...     def __call__(self, count):
    ...         return self.peak * 0.5 ** (count / self.half_life_steps)
    >>> gradtx.adamw(halving(1e-3, 100).min(5e-4))
    adamw(halving(0.001, 100).min(0.0005))
    """

    # With this attribute, `np.float32(2) * schedule` calls `__rmul__` below.
    __array_ufunc__ = None
    # How tightly the printed form binds: 1 for a sum, 2 for a product, 3 for a sign, 4 for a call.
    _rank = 4

    def __post_init__(self) -> None:
        for name in self._numbers:
            if callable(getattr(self, name)):
                raise TypeError(f"`{type(self).__name__}({name}=...)` cannot be a schedule.")
        super().__post_init__()

    def __call__(self, count: Any) -> jax.Array:
        """The value after `count` steps.

        Args:
            count: the number of steps before this one, an integer or an array of integers.
        """
        raise TypeError(f"`{type(self).__name__}` must define `__call__(self, count)`.")

    @property
    def horizon(self) -> float | None:
        """The number of steps in which the schedule shows its shape; None if it is not known.

        Most schedules are constant from then on.
        """
        return None

    def shift(self, steps: Fixed) -> "Schedule":
        """The schedule, later by a number of steps.

        Args:
            steps: $n$; the value at step $t$ is the schedule's value at step $\\max(t - n, 0)$. If $n$
                is negative, the schedule begins with its value at step $-n$.
        """
        return shifted(self, steps)

    def min(self, other: Hyper) -> "Schedule":
        """The smaller of two schedules at every step.

        Args:
            other: a number, an array or a schedule.
        """
        return combined("min", (self, other))

    def max(self, other: Hyper) -> "Schedule":
        """The larger of two schedules at every step.

        Args:
            other: a number, an array or a schedule.
        """
        return combined("max", (self, other))

    def raised_to(self, exponent: Hyper) -> "Schedule":
        """The schedule, raised to a power at every step.

        Args:
            exponent: a number, an array or a schedule.
        """
        return combined("raised_to", (self, exponent))

    def __neg__(self) -> "Schedule":
        return combined("-", (self,))

    def __add__(self, other: Hyper) -> "Schedule":
        return _joined("+", self, other)

    def __radd__(self, other: Hyper) -> "Schedule":
        return _joined("+", other, self)

    def __sub__(self, other: Hyper) -> "Schedule":
        return _joined("-", self, other)

    def __rsub__(self, other: Hyper) -> "Schedule":
        return _joined("-", other, self)

    def __mul__(self, other: Hyper) -> "Schedule":
        return _joined("*", self, other)

    def __rmul__(self, other: Hyper) -> "Schedule":
        return _joined("*", other, self)

    def __truediv__(self, other: Hyper) -> "Schedule":
        return _joined("/", self, other)

    def __rtruediv__(self, other: Hyper) -> "Schedule":
        return _joined("/", other, self)

    def _shown(self, name: str, value: Any) -> str:
        if name.endswith(("steps", "begin", "boundaries")):
            value = tuple(map(_whole, value)) if isinstance(value, tuple) else _whole(value)
        return show(value)


def _whole(x: Any) -> Any:
    return int(x) if isinstance(x, float) and x.is_integer() else x


def evaluate(x: Any, count: Any) -> jax.Array:
    """The value of a number, a schedule or a foreign function of the step after `count` steps."""
    if isinstance(x, Schedule):
        return scalar(x(count))
    if not callable(x):
        return scalar(x)
    function: Any = x
    with jax.numpy_dtype_promotion("standard"):
        return scalar(function(count))


def last_horizon(*schedules: Any) -> float | None:
    """The largest horizon among `schedules`, or None if none is known."""
    known = [x.horizon for x in schedules if isinstance(x, Schedule) and x.horizon is not None]
    return max(known, default=None)


def _joined(sign: str, *operands: Any) -> Any:
    for x in operands:
        number = isinstance(x, numbers.Real | np.ndarray | np.generic | jax.Array | Tuned)
        if isinstance(x, optax.GradientTransformation) or not (number or callable(x)):
            return NotImplemented  # a transformation has operators of its own
    return combined(sign, operands)


class combined(Schedule):
    """The schedule that an operator, `min`, `max` or `raised_to` makes from its operands."""

    how: str
    operands: tuple[Hyper, ...]

    @property
    def _rank(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {"+": 1, "-": 1 if len(self.operands) == 2 else 3, "*": 2, "/": 2}.get(self.how, 4)

    def __call__(self, count: Any) -> jax.Array:
        return FUNCTIONS[self.how](*(evaluate(x, count) for x in self.operands))

    @property
    def horizon(self) -> float | None:
        return last_horizon(*self.operands)

    def __repr__(self) -> str:
        left, *right = self.operands
        if not right:
            return f"-{operand(left, 3)}"
        if self._rank == 4:
            return f"{operand(left, 4)}.{self.how}({show(right[0])})"
        return f"{operand(left, self._rank)} {self.how} {operand(right[0], self._rank + 1)}"

    def tex(self, n: Tex, page: Page) -> Tex:
        left, *right = (page.value(x, n) for x in self.operands)
        if not right:
            return times(Tex("-1"), left)
        match self.how:
            case "+" | "-":
                return plus(left, right[0], self.how)
            case "*":
                return times(left, right[0])
            case "/":
                return fraction(left, right[0])
            case "raised_to":
                return Tex(rf"{left.within(2)}^{{{right[0].text}}}")
            case _:
                return Tex(rf"\{self.how}\left({left.text}, {right[0].text}\right)")


class shifted(Schedule):
    """The schedule that the method `shift` makes."""

    schedule: Schedule | Hyper
    steps: Fixed

    def __call__(self, count: Any) -> jax.Array:
        return evaluate(self.schedule, jnp.maximum(counted_from(count, self.steps), 0))

    @property
    def horizon(self) -> float | None:
        last = last_horizon(self.schedule)
        if last is None or not isinstance(self.steps, float):
            return last
        return max(last + self.steps, 0.0)

    def __repr__(self) -> str:
        return f"{operand(self.schedule, 4)}.shift({self._shown('steps', self.steps)})"

    def tex(self, n: Tex, page: Page) -> Tex:
        later = plus(n, page.number(self.steps), "-")
        if isinstance(self.steps, float) and self.steps <= 0:
            return page.value(self.schedule, later)
        return page.value(self.schedule, Tex(rf"\max\left({later.text}, 0\right)"))


def operand(x: Any, rank: int) -> str:
    """The text of an operand, in parentheses if it binds less tightly than `rank`."""
    return f"({x!r})" if isinstance(x, Schedule) and x._rank < rank else show(x)

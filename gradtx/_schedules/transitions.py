"""Schedules that go from one value to another: constant, linear, polynomial, half a cosine."""

from typing import Any

import jax

from gradtx._core.latex import Page, Tex
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.paths import cosine, held, leg, linear, powered
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import number, sum_of_steps

FINITE, LENGTH = "(-inf, inf)", "(0, inf)"


class constant_schedule(Schedule):
    """The same value at every step, $s(t) = c$.

    A plain number in a hyperparameter means the same. A `constant_schedule` can be a part of
    `join_schedules`, and takes part in arithmetic with schedules.

    Args:
        value: $c$.

    Raises:
        TypeError: if `value` is not a number or an array.
        ValueError: if `value` is not finite.

    >>> import gradtx
    >>> float(gradtx.constant_schedule(0.5)(100))
    0.5
    """

    value: Fixed
    limits = {"value": FINITE}

    def __call__(self, count: Any) -> jax.Array:
        return held(count, self.value)

    @property
    def horizon(self) -> float | None:
        return 0.0

    def tex(self, n: Tex, page: Page) -> Tex:
        return page.number(self.value)


class linear_schedule(Schedule):
    r"""A straight line from one value to another.

    $$ s(t) = \begin{cases} a & t \le B \\ a + (b - a)\,(t - B) / T & B < t < B + T \\
       b & t \ge B + T \end{cases} $$

    Args:
        init_value: $a$, the value until step $B$.
        end_value: $b$, the value from step $B + T$ on.
        transition_steps: $T > 0$, the number of steps in which the value changes.
        transition_begin: $B \ge 0$, the step at which the change begins.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.linear_schedule(0.0, 1.0, 4)
    >>> [float(schedule(step)) for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """

    init_value: Fixed
    end_value: Fixed
    transition_steps: Fixed
    transition_begin: Fixed = 0.0
    limits = {
        "init_value": FINITE,
        "end_value": FINITE,
        "transition_steps": LENGTH,
        "transition_begin": "[0, inf)",
    }

    def __call__(self, count: Any) -> jax.Array:
        end = number(self.transition_begin) + number(self.transition_steps)
        return leg(count, self.transition_begin, end, self.init_value, self.end_value)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.transition_begin, self.transition_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        begin, first = self.transition_begin, self.init_value
        end = number(begin) + number(self.transition_steps)
        return latex.path(page, n, first, (begin, first, "linear"), (end, self.end_value, "linear"))


class polynomial_schedule(Schedule):
    r"""A polynomial from one value to another.

    $$ s(t) = \begin{cases} a & t \le B \\ b + (a - b)\,(1 - (t - B) / T)^p & B < t < B + T \\
       b & t \ge B + T \end{cases} $$

    Args:
        init_value: $a$, the value until step $B$.
        end_value: $b$, the value from step $B + T$ on.
        power: $p \ge 0$; 1 gives a straight line, and with 0 the value remains $a$.
        transition_steps: $T > 0$, the number of steps in which the value changes.
        transition_begin: $B \ge 0$, the step at which the change begins.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.polynomial_schedule(1.0, 0.0, 2.0, 4)
    >>> [float(schedule(step)) for step in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    init_value: Fixed
    end_value: Fixed
    power: Fixed
    transition_steps: Fixed
    transition_begin: Fixed = 0.0
    limits = {**linear_schedule.limits, "power": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        begin, shape = self.transition_begin, powered(linear, self.power)
        end = number(begin) + number(self.transition_steps)
        return leg(count, begin, end, self.init_value, self.end_value, shape)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.transition_begin, self.transition_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        begin, first = self.transition_begin, self.init_value
        end = number(begin) + number(self.transition_steps)
        down = (end, self.end_value, "linear", self.power)
        return latex.path(page, n, first, (begin, first, "linear"), down)


class cosine_decay_schedule(Schedule):
    r"""A decay by half a period of a cosine.

    $$ s(t) = a \left(\alpha + (1 - \alpha)
       \left(\frac{1 + \cos(\pi \min(t, T) / T)}{2}\right)^p\right) $$

    Args:
        init_value: $a$, the value at step 0.
        decay_steps: $T > 0$, the number of steps in which the value decays.
        alpha: $\alpha$, the value from step $T$ on, as a share of `init_value`.
        exponent: $p \ge 0$; a larger exponent makes the decay steeper at its beginning.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    Source: Loshchilov & Hutter, 2016, arXiv:1608.03983, equation 5.

    >>> import gradtx
    >>> schedule = gradtx.cosine_decay_schedule(1.0, 100, alpha=0.5)
    >>> float(schedule(0)), float(schedule(50)), float(schedule(100))
    (1.0, 0.75, 0.5)
    """

    init_value: Fixed
    decay_steps: Fixed
    alpha: Fixed = 0.0
    exponent: Fixed = 1.0
    limits = {
        "init_value": FINITE,
        "decay_steps": LENGTH,
        "alpha": FINITE,
        "exponent": "[0, inf)",
    }

    def __call__(self, count: Any) -> jax.Array:
        end_value = number(self.init_value) * number(self.alpha)
        shape = powered(cosine, self.exponent)
        return leg(count, 0.0, self.decay_steps, self.init_value, end_value, shape)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.decay_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        end_value = number(self.init_value) * number(self.alpha)
        down = (self.decay_steps, end_value, "cosine", self.exponent)
        return latex.path(page, n, self.init_value, down)

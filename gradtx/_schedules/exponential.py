"""Exponential decay."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import since, sum_of_steps, whole_phases

# The largest exponent, so that the power below is finite in float32.
_LARGEST = 88.0


class exponential_decay(Schedule):
    r"""A decay by the same factor in every phase of equal length.

    $$ s(t) = a\, r^{\max(t - B, 0) / T} $$

    Args:
        init_value: $a$, the value until step $B$.
        transition_steps: $T > 0$, the number of steps in which the value is multiplied by $r$.
        decay_rate: $r > 0$; if it is larger than 1, the value grows.
        transition_begin: $B \ge 0$, the step at which the decay begins.
        staircase: whether the exponent is rounded down to an integer, so that the value falls all at
            once after every `transition_steps` steps.
        end_value: a lower bound of the value if $r < 1$, and an upper bound otherwise; None means that
            there is no bound.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.exponential_decay(1.0, 10, 0.5, staircase=True)
    >>> [float(schedule(step)) for step in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """

    init_value: Fixed
    transition_steps: Fixed
    decay_rate: Fixed
    transition_begin: Fixed = 0.0
    staircase: bool = False
    end_value: Fixed | None = None
    limits = {
        "init_value": "(-inf, inf)",
        "transition_steps": "(0, inf)",
        "decay_rate": "(0, inf)",
        "transition_begin": "[0, inf)",
        "end_value": "(-inf, inf)",
    }

    def __call__(self, count: Any) -> jax.Array:
        return decayed(self, count, self.init_value, self.transition_begin)

    @property
    def horizon(self) -> float | None:
        # The decay has no end. Three phases show it, and the steps of a staircase.
        return sum_of_steps(self.transition_begin, *(self.transition_steps,) * 3)

    def tex(self, n: Tex, page: Page) -> Tex:
        return decayed_tex(self, n, page, self.init_value, self.transition_begin)


def decayed(schedule: Any, count: Any, first: Any, begin: Any) -> jax.Array:
    """The exponential decay of `first` from the step `begin`, with the other fields of `schedule`."""
    rate, steps = schedule.decay_rate, schedule.transition_steps
    if schedule.staircase:
        phases = whole_phases(count, begin, steps)
    else:
        length = scalar(steps)
        phases = since(count, begin) / jnp.where(length > 0, length, 1)  # a traced number may be 0
    # The logarithm of a Python number is computed in float64. A rate close to 1 would lose digits.
    log_rate = scalar(math.log(rate) if isinstance(rate, float) else jnp.log(scalar(rate)))
    log_rate = jnp.maximum(log_rate, -_LARGEST)  # a traced number may be 0
    factor = jnp.exp(jnp.minimum(jnp.maximum(phases, 0) * log_rate, _LARGEST))
    value = scalar(first) * factor
    if schedule.end_value is None:
        return value
    end = scalar(schedule.end_value)
    return jnp.where(scalar(rate) < 1, jnp.maximum(value, end), jnp.minimum(value, end))


def decayed_tex(schedule: Any, n: Tex, page: Page, first: Any, begin: Any) -> Tex:
    """The exponential decay of `first` from the step `begin` in LaTeX."""
    elapsed = latex.after(n, begin, page)
    if not (isinstance(begin, float) and begin == 0):
        elapsed = Tex(rf"\max\left({elapsed.text}, 0\right)")
    phases = fraction(elapsed, page.number(schedule.transition_steps)).text
    phases = rf"\left\lfloor {phases} \right\rfloor" if schedule.staircase else phases
    rate = page.number(schedule.decay_rate)
    value = times(page.number(first), Tex(rf"{rate.within(2)}^{{{phases}}}", 1))
    if schedule.end_value is None:
        return value
    grows = isinstance(schedule.decay_rate, float) and schedule.decay_rate >= 1
    bound = page.number(schedule.end_value)
    return Tex(rf"\{'min' if grows else 'max'}\left({value.text}, {bound.text}\right)")

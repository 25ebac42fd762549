"""Schedules that grow: a power of the step, and a decay whose half-life grows linearly."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.numerics import log
from gradtx._core.values import Fixed
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import as_count, progress


class step_power(Schedule):
    r"""A power of the number of steps, $s(t) = c\, t^p$, which is 0 at the first step.

    Args:
        exponent: $p > 0$.
        factor: $c$.

    Raises:
        ValueError: if `exponent` is not positive.
        TypeError: if a field is a schedule.

    >>> import gradtx
    >>> schedule = gradtx.step_power(0.25)
    >>> [float(schedule(step)) for step in (0, 1, 16)]
    [0.0, 1.0, 2.0]
    """

    exponent: Fixed
    factor: Fixed = 1.0
    limits = {"exponent": "(0, inf)", "factor": "(-inf, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        return scalar(self.factor) * scalar(as_count(count)) ** scalar(self.exponent)

    def tex(self, n: Tex, page: Page) -> Tex:
        power = Tex(rf"{n.within(2)}^{{{page.number(self.exponent, 'p').text}}}")
        return times(page.number(self.factor), power)


class half_life_schedule(Schedule):
    r"""A decay of an average whose half-life grows linearly from one value to another.

    $$ s(t) = 2^{-1 / (h(t) + 1)}, \qquad h(t) = (1 - t / T)\, h_a + (t / T)\, h_b, \qquad
       h_x = \frac{\log \frac12}{\log x} - 1 $$

    After $T$ steps the decay is $b$. A decay close to 1 that grew linearly itself would spend almost
    all of the time at short half-lives.

    Args:
        init_value: the decay $a$ at the start, in (0, 1).
        end_value: the decay $b$ at the end, in (0, 1).
        transition_steps: $T > 0$.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a field is a schedule.

    Source: Pagliardini, Ablin & Grangier, 2024, arXiv:2409.03137, section 3 and appendix A.1.

    >>> import gradtx
    >>> schedule = gradtx.half_life_schedule(0.5, 0.5**0.25, 3)
    >>> [round(float(schedule(step)), 4) for step in range(4)]  # half-lives of 1, 2, 3 and 4 steps
    [0.5, 0.7071, 0.7937, 0.8409]
    """

    init_value: Fixed
    end_value: Fixed
    transition_steps: Fixed
    limits = {"init_value": "(0, 1)", "end_value": "(0, 1)", "transition_steps": "(0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        share, rest = progress(count, 0.0, self.transition_steps)
        # The `-1` of the half-lives cancels the `+1` of the exponent.
        steps = rest / log(self.init_value) + share / log(self.end_value)
        return jnp.exp(1 / steps)

    @property
    def horizon(self) -> float | None:
        return self.transition_steps if isinstance(self.transition_steps, float) else None

    def tex(self, n: Tex, page: Page) -> Tex:
        length = page.number(self.transition_steps, "T").text
        share = Tex(rf"\min\left(\frac{{{n.text}}}{{{length}}}, 1\right)")
        ends = [
            Tex(rf"\log\left({page.number(x, letter).text}\right)")
            for x, letter in ((self.init_value, "a"), (self.end_value, "b"))
        ]
        steps = plus(fraction(plus(Tex("1"), share, "-"), ends[0]), fraction(share, ends[1]))
        return Tex(rf"\exp\left(\frac{{1}}{{{steps.text}}}\right)")

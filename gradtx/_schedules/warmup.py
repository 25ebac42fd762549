"""Schedules that rise on a straight line to a peak, and then stay there or decay as in Optax."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import OTHERWISE, Page, Tex, cases
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.exponential import decayed, decayed_tex
from gradtx._schedules.paths import cosine, leg, linear, path, powered
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import number, since, sum_of_steps

WARMUP_LIMITS = {
    "init_value": "(-inf, inf)",
    "peak_value": "(-inf, inf)",
    "warmup_steps": "[0, inf)",
}


class warmup_constant_schedule(Schedule):
    r"""A rise on a straight line, and then a constant value.

    $$ s(t) = \begin{cases} a + (m - a)\, t / W & t < W \\ m & t \ge W \end{cases} $$

    Args:
        init_value: $a$, the value at step 0.
        peak_value: $m$, the value from step $W$ on.
        warmup_steps: $W \ge 0$, the number of steps of the rise; 0 means that there is no rise.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.warmup_constant_schedule(0.0, 1.0, 4)
    >>> [float(schedule(step)) for step in (0, 2, 4, 100)]
    [0.0, 0.5, 1.0, 1.0]
    """

    init_value: Fixed
    peak_value: Fixed
    warmup_steps: Fixed
    limits = WARMUP_LIMITS

    def __call__(self, count: Any) -> jax.Array:
        return leg(count, 0.0, self.warmup_steps, self.init_value, self.peak_value)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.warmup_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        rise = (self.warmup_steps, self.peak_value, "linear")
        return latex.path(page, n, self.init_value, rise)


class warmup_cosine_decay_schedule(Schedule):
    r"""A rise on a straight line, and then a decay by half a period of a cosine.

    $$ s(t) = \begin{cases} a + (m - a)\, t / W & t < W \\
       b + (m - b) \left(\frac{1 + \cos \pi x}{2}\right)^p & t \ge W \end{cases}
       \qquad x = \min\left(\frac{t - W}{T - W}, 1\right) $$

    Args:
        init_value: $a$, the value at step 0.
        peak_value: $m$, the value at step $W$.
        warmup_steps: $W \ge 0$, the number of steps of the rise; 0 means that there is no rise.
        decay_steps: $T > W$, the number of steps of the rise and the decay together.
        end_value: $b$, the value from step $T$ on.
        exponent: $p \ge 0$; a larger exponent makes the decay steeper at its beginning.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval, or if `decay_steps` is not larger than
            `warmup_steps`.

    Source: Loshchilov & Hutter, 2016, arXiv:1608.03983, equation 5, for the decay.

    >>> import gradtx
    >>> schedule = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 110)
    >>> [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    init_value: Fixed
    peak_value: Fixed
    warmup_steps: Fixed
    decay_steps: Fixed
    end_value: Fixed = 0.0
    exponent: Fixed = 1.0
    limits = {
        **WARMUP_LIMITS,
        "decay_steps": "(0, inf)",
        "end_value": "(-inf, inf)",
        "exponent": "[0, inf)",
    }

    def validate(self) -> None:
        warmup, total = self.warmup_steps, self.decay_steps
        if isinstance(warmup, float) and isinstance(total, float) and total <= warmup:
            raise ValueError(
                f"`warmup_cosine_decay_schedule(decay_steps={total!r})` is the number of steps of the "
                "warm-up and the decay together, and must be larger than `warmup_steps`, which is "
                f"{warmup!r}."
            )

    def __call__(self, count: Any) -> jax.Array:
        rise = (self.warmup_steps, self.peak_value, linear)
        decay = (self.decay_steps, self.end_value, powered(cosine, self.exponent))
        return path(count, self.init_value, rise, decay)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.decay_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        rise = (self.warmup_steps, self.peak_value, "linear")
        decay = (self.decay_steps, self.end_value, "cosine", self.exponent)
        return latex.path(page, n, self.init_value, rise, decay)


class warmup_exponential_decay_schedule(Schedule):
    r"""A rise on a straight line, and then an exponential decay.

    $$ s(t) = \begin{cases} a + (m - a)\, t / W & t < W \\
       m\, r^{\max(t - W - B, 0) / T} & t \ge W \end{cases} $$

    Args:
        init_value: $a$, the value at step 0.
        peak_value: $m$, the value at step $W$.
        warmup_steps: $W \ge 0$, the number of steps of the rise; 0 means that there is no rise.
        transition_steps: $T > 0$, the number of steps in which the value is multiplied by $r$.
        decay_rate: $r > 0$; if it is larger than 1, the value grows.
        transition_begin: $B \ge 0$, the number of steps between the rise and the decay.
        staircase: whether the exponent is rounded down to an integer, so that the value falls all at
            once after every `transition_steps` steps.
        end_value: a lower bound of the decaying value if $r < 1$, and an upper bound otherwise; None
            means that there is no bound.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    >>> import gradtx
    >>> schedule = gradtx.warmup_exponential_decay_schedule(0.0, 1.0, 10, 10, 0.5, staircase=True)
    >>> [float(schedule(step)) for step in (0, 5, 10, 20, 30)]
    [0.0, 0.5, 1.0, 0.5, 0.25]
    """

    init_value: Fixed
    peak_value: Fixed
    warmup_steps: Fixed
    transition_steps: Fixed
    decay_rate: Fixed
    transition_begin: Fixed = 0.0
    staircase: bool = False
    end_value: Fixed | None = None
    limits = {
        **WARMUP_LIMITS,
        "transition_steps": "(0, inf)",
        "decay_rate": "(0, inf)",
        "transition_begin": "[0, inf)",
        "end_value": "(-inf, inf)",
    }

    def __call__(self, count: Any) -> jax.Array:
        rise = leg(count, 0.0, self.warmup_steps, self.init_value, self.peak_value)
        begin = number(self.warmup_steps) + number(self.transition_begin)
        decay = decayed(self, count, self.peak_value, begin)
        return jnp.where(since(count, self.warmup_steps) < 0, rise, decay)

    @property
    def horizon(self) -> float | None:
        # The decay has no end. Three phases show it, and the steps of a staircase.
        phases = (self.transition_steps,) * 3
        return sum_of_steps(self.warmup_steps, self.transition_begin, *phases)

    def tex(self, n: Tex, page: Page) -> Tex:
        begin = number(self.warmup_steps) + number(self.transition_begin)
        decay = decayed_tex(self, n, page, self.peak_value, begin)
        if self.warmup_steps == 0.0:
            return decay
        rise = (0.0, self.warmup_steps, self.init_value, self.peak_value, "linear")
        warming = latex.before(n, self.warmup_steps, page)
        return cases((latex.leg(page, n, *rise), warming), (decay, OTHERWISE))

"""The one-cycle schedules: up to a peak and down again, in the course of a whole training."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import Page, Tex
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.paths import cosine, linear, path
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import number, sum_of_steps

_LIMITS = {
    "transition_steps": "(0, inf)",
    "peak_value": "(-inf, inf)",
    "pct_start": "[0, 1]",
    "pct_final": "[0, 1]",
    "div_factor": "(0, inf)",
    "final_div_factor": "(0, inf)",
}


class linear_onecycle_schedule(Schedule):
    r"""One cycle of three straight lines: up to a peak, back down, and further down.

    The values at the steps $0$, $\lfloor p_1 T \rfloor$, $\lfloor p_2 T \rfloor$ and $T$ are

    $$ \frac{m}{d}, \quad m, \quad \frac{m}{d}, \quad \frac{m}{d\, d_f}. $$

    Args:
        transition_steps: $T > 0$, the number of steps of the cycle.
        peak_value: $m$, the value at the peak.
        pct_start: $p_1$, the share of the steps until the peak, in [0, 1].
        pct_final: $p_2 \ge p_1$, the share of the steps until the end of the second line, in [0, 1].
        div_factor: $d > 0$, the peak value as a multiple of the first value.
        final_div_factor: $d_f > 0$, the first value as a multiple of the last value.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval, or if `pct_final` is less than `pct_start`.

    Source: Smith & Topin, 2017, arXiv:1708.07120, section 3.

    >>> import gradtx
    >>> schedule = gradtx.linear_onecycle_schedule(100, 1.0, div_factor=4.0, final_div_factor=4.0)
    >>> [float(schedule(step)) for step in (0, 30, 85, 100)]
    [0.25, 1.0, 0.25, 0.0625]
    """

    transition_steps: Fixed
    peak_value: Fixed
    pct_start: Fixed = 0.3
    pct_final: Fixed = 0.85
    div_factor: Fixed = 25.0
    final_div_factor: Fixed = 1e4
    limits = _LIMITS

    def validate(self) -> None:
        start, final = self.pct_start, self.pct_final
        if isinstance(start, float) and isinstance(final, float) and final < start:
            raise ValueError(
                f"`linear_onecycle_schedule(pct_final={final!r})` must not be less than "
                f"`pct_start`, which is {start!r}."
            )

    def __call__(self, count: Any) -> jax.Array:
        peak, steps = number(self.peak_value), self.transition_steps
        first = peak / number(self.div_factor)
        last = first / number(self.final_div_factor)
        up = (_share_of(steps, self.pct_start), peak, linear)
        down = (_share_of(steps, self.pct_final), first, linear)
        return path(count, first, up, down, (steps, last, linear))

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.transition_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        peak, steps = number(self.peak_value), self.transition_steps
        first = peak / number(self.div_factor)
        last = first / number(self.final_div_factor)
        up = (_share_of(steps, self.pct_start), peak, "linear")
        down = (_share_of(steps, self.pct_final), first, "linear")
        return latex.path(page, n, first, up, down, (steps, last, "linear"))


class cosine_onecycle_schedule(Schedule):
    r"""One cycle of two half cosines: up to a peak, and down.

    The values at the steps $0$, $\lfloor p T \rfloor$ and $\lfloor T \rfloor$ are

    $$ \frac{m}{d}, \quad m, \quad \frac{m}{d\, d_f}. $$

    Args:
        transition_steps: $T > 0$, the number of steps of the cycle.
        peak_value: $m$, the value at the peak.
        pct_start: $p$, the share of the steps until the peak, in [0, 1].
        div_factor: $d > 0$, the peak value as a multiple of the first value.
        final_div_factor: $d_f > 0$, the first value as a multiple of the last value.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval.

    Source: Smith & Topin, 2017, arXiv:1708.07120, section 3, which has straight lines.

    >>> import gradtx
    >>> schedule = gradtx.cosine_onecycle_schedule(100, 1.0, div_factor=4.0, final_div_factor=4.0)
    >>> [float(schedule(step)) for step in (0, 15, 30, 100)]
    [0.25, 0.625, 1.0, 0.0625]
    """

    transition_steps: Fixed
    peak_value: Fixed
    pct_start: Fixed = 0.3
    div_factor: Fixed = 25.0
    final_div_factor: Fixed = 1e4
    limits = {name: x for name, x in _LIMITS.items() if name != "pct_final"}

    def __call__(self, count: Any) -> jax.Array:
        peak, steps = number(self.peak_value), self.transition_steps
        first = peak / number(self.div_factor)
        last = first / number(self.final_div_factor)
        up = (_share_of(steps, self.pct_start), peak, cosine)
        return path(count, first, up, (_share_of(steps, 1.0), last, cosine))

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.transition_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        peak, steps = number(self.peak_value), self.transition_steps
        first = peak / number(self.div_factor)
        last = first / number(self.final_div_factor)
        up = (_share_of(steps, self.pct_start), peak, "cosine")
        return latex.path(page, n, first, up, (_share_of(steps, 1.0), last, "cosine"))


def _share_of(steps: Any, share: Any) -> Any:
    """A share of a number of steps, rounded down to an integer.

    A product that lies below an integer by a rounding error counts as the integer: 0.29 of 100 steps
    are 29 steps, although `0.29 * 100` is 28.999999999999996.
    """
    product = number(steps) * number(share)
    if isinstance(product, float):
        return float(math.floor(product * (1 + 2.0**-40)))
    return jnp.floor(product * (1 + 2.0**-22))

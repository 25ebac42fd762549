"""The trapezoid, or warm-up, stable, decay: a long training whose end need not be known in advance."""

from typing import Any, Literal

import jax

from gradtx._core.latex import Page, Tex
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.paths import SHAPES, linear, path
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import number, sum_of_steps
from gradtx._schedules.warmup import WARMUP_LIMITS


class warmup_stable_decay_schedule(Schedule):
    r"""A trapezoid: a rise on a straight line, a long constant phase, and a short decay.

    $$ s(t) = \begin{cases} a + (m - a)\, t / W & t < W \\ m & W \le t < W + S \\
       b + (m - b)\, h(x) & t \ge W + S \end{cases}
       \qquad x = \min\left(\frac{t - W - S}{D}, 1\right) $$

    Every number of steps is the length of one phase. A checkpoint from the constant phase can be
    continued by a decay at any time: replace `stable_steps`.

    Args:
        init_value: $a$, the value at step 0.
        peak_value: $m$, the value of the constant phase.
        warmup_steps: $W \ge 0$, the number of steps of the rise.
        stable_steps: $S \ge 0$, the number of steps of the constant phase.
        decay_steps: $D \ge 0$, the number of steps of the decay.
        end_value: $b$, the value at the end of the decay and after it.
        decay_type: the form of the decay: "linear" is $h(x) = 1 - x$, "cosine" is
            $h(x) = (1 + \cos \pi x) / 2$, and "1-sqrt" is $h(x) = 1 - \sqrt x$.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval, or if `decay_type` is unknown.

    Source: Zhai et al., 2021, arXiv:2106.04560, section 3.5; Hu et al., 2024, arXiv:2404.06395,
    section 4; Hägele et al., 2024, arXiv:2405.18392, section 3, for "1-sqrt".

    >>> import gradtx
    >>> schedule = gradtx.warmup_stable_decay_schedule(0.0, 1.0, 10, 80, 10)
    >>> [float(schedule(step)) for step in (0, 5, 10, 90, 95, 100)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    init_value: Fixed
    peak_value: Fixed
    warmup_steps: Fixed
    stable_steps: Fixed
    decay_steps: Fixed
    end_value: Fixed = 0.0
    decay_type: Literal["linear", "cosine", "1-sqrt"] = "linear"
    limits = {
        **WARMUP_LIMITS,
        "stable_steps": "[0, inf)",
        "decay_steps": "[0, inf)",
        "end_value": "(-inf, inf)",
    }

    def validate(self) -> None:
        if self.decay_type not in SHAPES:
            raise ValueError(
                f"`warmup_stable_decay_schedule(decay_type={self.decay_type!r})` must be one of "
                f"{sorted(SHAPES)}."
            )

    def __call__(self, count: Any) -> jax.Array:
        stable = number(self.warmup_steps) + number(self.stable_steps)
        rise = (self.warmup_steps, self.peak_value, linear)
        constant = (stable, self.peak_value, linear)
        decay = (stable + number(self.decay_steps), self.end_value, SHAPES[self.decay_type])
        return path(count, self.init_value, rise, constant, decay)

    @property
    def horizon(self) -> float | None:
        return sum_of_steps(self.warmup_steps, self.stable_steps, self.decay_steps)

    def tex(self, n: Tex, page: Page) -> Tex:
        stable = number(self.warmup_steps) + number(self.stable_steps)
        rise = (self.warmup_steps, self.peak_value, "linear")
        constant = (stable, self.peak_value, "linear")
        decay = (stable + number(self.decay_steps), self.end_value, self.decay_type)
        return latex.path(page, n, self.init_value, rise, constant, decay)

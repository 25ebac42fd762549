"""The inverse square root, a decay whose end need not be known in advance."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import OTHERWISE, Page, Tex, cases, fraction, plus, sqrt, times
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.paths import leg
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import since, sum_of_steps
from gradtx._schedules.warmup import WARMUP_LIMITS


class warmup_inverse_sqrt_schedule(Schedule):
    r"""A rise on a straight line, and then a decay by the inverse square root.

    $$ s(t) = \begin{cases} a + (m - a)\, t / W & t < W \\
       m \sqrt{\tau / (\tau + t - W)} & t \ge W \end{cases} $$

    With the default $\tau = W$, the decay is $m \sqrt{W / t}$. With $a = 0$, $m = (d\, W)^{-1/2}$ for
    a model of width $d$, and steps counted from 1, this is the schedule of the first transformer.

    Args:
        init_value: $a$, the value at step 0.
        peak_value: $m$, the value at step $W$.
        warmup_steps: $W \ge 0$, the number of steps of the rise.
        timescale: $\tau > 0$; after $3 \tau$ steps of decay the value is half the peak. None means
            `warmup_steps`, which must then be positive.

    Raises:
        TypeError: if an argument is not a number or an array.
        ValueError: if a number lies outside its interval, or if both `warmup_steps` and `timescale`
            leave the decay without a length.

    Source: Vaswani et al., 2017, arXiv:1706.03762, equation 3.

    >>> import gradtx
    >>> schedule = gradtx.warmup_inverse_sqrt_schedule(0.0, 1.0, 100)
    >>> [float(schedule(step)) for step in (0, 50, 100, 400)]
    [0.0, 0.5, 1.0, 0.5]
    """

    init_value: Fixed
    peak_value: Fixed
    warmup_steps: Fixed
    timescale: Fixed | None = None
    limits = {**WARMUP_LIMITS, "timescale": "(0, inf)"}

    def validate(self) -> None:
        warmup = self.warmup_steps
        if self.timescale is None and isinstance(warmup, float) and warmup == 0.0:
            raise ValueError(
                "`warmup_inverse_sqrt_schedule(warmup_steps=0.0)` needs a `timescale`, the number of "
                "steps by which its decay is measured."
            )

    def __call__(self, count: Any) -> jax.Array:
        rise = leg(count, 0.0, self.warmup_steps, self.init_value, self.peak_value)
        scale = scalar(self.warmup_steps if self.timescale is None else self.timescale)
        scale = jnp.where(scale > 0, scale, 1)  # a traced number may be 0
        elapsed = since(count, self.warmup_steps)
        decay = scalar(self.peak_value) * jnp.sqrt(scale / (scale + jnp.maximum(elapsed, 0)))
        return jnp.where(elapsed < 0, rise, decay)

    @property
    def horizon(self) -> float | None:
        # The decay has no end. The value at this step is a quarter of the peak.
        scale = self.warmup_steps if self.timescale is None else self.timescale
        return sum_of_steps(self.warmup_steps, *(scale,) * 15)

    def tex(self, n: Tex, page: Page) -> Tex:
        warmup = self.warmup_steps
        scale = page.number(warmup if self.timescale is None else self.timescale)
        elapsed = plus(scale, latex.after(n, warmup, page))
        decay = times(page.number(self.peak_value), sqrt(fraction(scale, elapsed)))
        if warmup == 0.0:
            return decay
        rise = latex.leg(page, n, 0.0, warmup, self.init_value, self.peak_value, "linear")
        return cases((rise, latex.before(n, warmup, page)), (decay, OTHERWISE))

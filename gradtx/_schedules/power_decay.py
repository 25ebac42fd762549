"""The decay of an average that becomes slower over the steps, as in Adafactor."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, plus
from gradtx._core.values import Fixed
from gradtx._schedules import latex
from gradtx._schedules.schedule import Schedule
from gradtx._schedules.steps import since


class power_decay(Schedule):
    r"""The decay $1 - t^{-c}$ of an average in step $t = 1, 2, \dots$, which rises from 0 towards 1.

    In step 1 the decay is 0, so the average starts as its first summand, and needs no bias correction.

    Args:
        exponent: $c > 0$. With 1 the average is the mean of all steps.
        offset_steps: the number of steps by which $t$ starts later. Until then the decay is 0.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a field is a schedule.

    Source: Shazeer & Stern, 2018, arXiv:1804.04235, section 7.2.

    >>> import gradtx
    >>> schedule = gradtx.power_decay(0.5)
    >>> [float(schedule(count)) for count in (0, 3, 99)]
    [0.0, 0.5, 0.9]
    """

    exponent: Fixed = 0.8
    offset_steps: Fixed = 0.0
    limits = {"exponent": "(0, inf)", "offset_steps": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        t = jnp.maximum(since(count, self.offset_steps) + 1, 1)
        return -jnp.expm1(-scalar(self.exponent) * jnp.log(t))

    def tex(self, n: Tex, page: Page) -> Tex:
        t = latex.next_step(n)
        if self.offset_steps != 0.0:
            later = plus(t, page.number(self.offset_steps), "-")
            t = Tex(rf"\max\left({later.text}, 1\right)")
        power = page.number(self.exponent, "c").within(1)
        return plus(Tex("1"), Tex(rf"{t.within(2)}^{{-{power}}}", 1), "-")

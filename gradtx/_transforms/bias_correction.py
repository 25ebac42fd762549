"""Bias correction: moments that start at zero, brought to the size of what they average."""

from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx._compose.wrapper import Wrapper, as_inner, moment_of
from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, complement, fraction, number, plus, times
from gradtx._core.layout import shared
from gradtx._core.numerics import compensated_add, log
from gradtx._core.schedule import at_step, next_count
from gradtx._core.unit import Elementwise
from gradtx._transforms.moments import Moment
from gradtx._transforms.roots import running_max


class BiasCorrectionState(NamedTuple):
    """Steps taken; for a scheduled decay the logarithm of the start's remaining weight, as the sum and
    what rounding took from it (shape (2,)), else empty; and the moment's state."""

    count: Any
    log_kept: Any
    inner: Any


class bias_correction(Wrapper, Elementwise):
    r"""A moment divided by its gain, so that a constant gradient comes out unchanged.

    $$ \hat m_t = \frac{m_t}{1 - \prod_{s \le t} b_s}, \qquad 1 - b^t = -\operatorname{expm1}(t
       \operatorname{log1p}(-(1 - b))) $$

    `inner` is a `Moment` (`scale_by_momentum`, `second_moment`) or a `running_max` of one; the gain of a
    heavy ball is $(1 - b^t)/(1 - b)$ and that of a Nesterov average $1 - b^{t+1}$. It is right within
    5e-7 (relative) from the first step on, also past step $2^{31}$, for a start at zero. Raises
    `TypeError` for anything that has no such gain (a centered variance) and for a heavy ball whose decay
    is scheduled. Source:
    Kingma & Ba, 2014, arXiv:1412.6980, section 3.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.bias_correction(gradtx.scale_by_momentum(0.9))
    >>> u, state = tx.update(jnp.full((), 2.0), tx.init(jnp.zeros(())))
    >>> float(u), float(gradtx.get(state, "mu"))
    (2.0, 0.2)
    """

    linear = as_inner

    def validate(self) -> None:
        inside = self.inner.inner if isinstance(self.inner, running_max) else self.inner
        if not isinstance(inside, Moment):
            raise TypeError(
                f"`bias_correction` divides a moment by its gain, and `{self.inner!r}` has none. Wrap "
                "`scale_by_momentum(...)` or `second_moment(...)` before taking roots or quotients."
            )
        if isinstance(inside.decay, float) and inside.decay == 1:
            raise ValueError(f"`bias_correction({self.inner!r})`: a sum has no gain to divide by.")
        if callable(inside.decay) and getattr(inside, "form", "ema") != "ema":
            raise TypeError(
                f"`bias_correction({self.inner!r})`: only an average has a gain under a schedule."
            )

    def init_leaf(self, param: Any, inner: Any) -> BiasCorrectionState:
        by_schedule = callable(moment_of(self).decay)
        return BiasCorrectionState(shared(0), shared(np.zeros(2)) if by_schedule else (), inner)

    def begin(self, state: BiasCorrectionState, measured: Any) -> tuple[BiasCorrectionState, Any]:
        moment, count = moment_of(self), next_count(state.count)
        decay = at_step(moment.decay, state.count)
        if isinstance(state.log_kept, tuple):
            return state._replace(count=count), moment.gain(scalar(count) * log(decay), decay)
        log_kept = compensated_add(state.log_kept, log(decay))
        return state._replace(count=count, log_kept=log_kept), moment.gain(log_kept[0], decay)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, given: Any, gain: Any
    ) -> tuple[jax.Array, Any]:
        return update / gain, state

    def tex(self, g: Tex, page: Page) -> Tex:
        moment: Any = moment_of(self)
        m, b = page.symbol(self.inner.tex(g, page)), number(moment.decay)
        ahead = getattr(moment, "nesterov", False)
        if callable(moment.decay):
            kept = Tex(rf"\prod_{{s<t}} {number(moment.decay, 's').text}")
            kept = times(b, kept) if ahead else kept
        else:
            kept = Tex(rf"{b.within(2)}^{{{'t+1' if ahead else 't'}}}")
        heavy = getattr(moment, "form", "ema") == "heavy_ball"
        new = times(complement(moment.decay), m) if heavy else m
        letter = rf"\hat{{{m.text.removesuffix('_t')}}}"
        return page.define(letter, lambda _: fraction(new, plus(Tex("1"), kept, "-")))

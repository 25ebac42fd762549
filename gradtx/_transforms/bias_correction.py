"""Bias correction: a moment that starts at zero is brought to the size of what it averages."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from gradtx._compose.once import once
from gradtx._compose.wrapper import Wrapper, as_inner, moment_of
from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.layout import shared
from gradtx._core.limits import outside
from gradtx._core.numerics import compensated_add, log
from gradtx._core.schedule import at_step, next_count
from gradtx._core.unit import Elementwise
from gradtx._transforms.moments import Moment
from gradtx._transforms.roots import running_max


class BiasCorrectionState(NamedTuple):
    """The state of `bias_correction`.

    `count` is the number of steps taken, and `inner` the state of the moment. For a scheduled decay,
    `log_kept` is the sum of all $\\log b_s$ and its rounding error, an array of shape (2,). For a
    constant decay it is empty.
    """

    count: Any
    log_kept: Any
    inner: Any


class bias_correction(Wrapper, Elementwise):
    r"""The update is a moment divided by its gain, so that a constant gradient comes out unchanged.

    $$ \hat m_t = \frac{m_t}{1 - \prod_{s \le t} b_s}, \qquad 1 - b^t = -\operatorname{expm1}(t
       \operatorname{log1p}(-(1 - b))) $$

    The first equation is for an average. A heavy ball has the gain $(1 - b^t)/(1 - b)$, and a Nesterov
    average has the gain $1 - b^{t+1}$. The second equation keeps the relative error below 5e-7 from the
    first step on, also past step $2^{31}$. The moment has to start at zero.

    Args:
        inner: a `Moment`, such as `scale_by_momentum` or `second_moment`, or a `running_max` or a
            `once` around one.

    Raises:
        TypeError: if `inner` is not a moment (`centered_second_moment` does not have a gain, either), or
            if it is a heavy ball whose decay is a schedule.
        ValueError: if `inner` is a heavy ball with decay 1, which is a sum.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, section 3.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.bias_correction(gradtx.scale_by_momentum(0.9))
    >>> u, state = tx.update(jnp.full((), 2.0), tx.init(jnp.zeros(())))
    >>> float(u), float(gradtx.get(state, "mu"))
    (2.0, 0.2)
    """

    linear = as_inner
    keeps_zero = True
    instead = dict.fromkeys(
        ("", "moment", "decay", "count"),
        "it wraps a moment, such as `bias_correction(scale_by_momentum(0.9))`, and the function of "
        "three arguments is `optax.tree.bias_correction`",
    )

    if TYPE_CHECKING:  # `validate` refuses other transformations
        inner: Moment | running_max | once  # pyright: ignore[reportIncompatibleVariableOverride]

    def validate(self) -> None:
        inner = self.inner
        inside = inner.inner if isinstance(inner, running_max | once) else inner
        if not isinstance(inside, Moment):
            raise TypeError(
                f"`bias_correction` divides a moment by its gain, but `{self.inner!r}` is not a moment. "
                "Wrap `scale_by_momentum(...)` or `second_moment(...)` directly, and take roots and "
                "quotients of the result."
            )
        if outside(inside.decay, "[0, 1)"):
            raise ValueError(
                f"`bias_correction({self.inner!r})`: with decay 1 the moment is a sum, whose gain grows "
                "with every step. Pass a decay below 1."
            )
        if callable(inside.decay) and getattr(inside, "form", "ema") != "ema":
            raise TypeError(
                f"`bias_correction({self.inner!r})`: a heavy ball whose decay is a schedule cannot be "
                'corrected. Pass `form="ema"`, or a constant decay.'
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
        m = page.symbol(self.inner.tex(g, page))
        b = page.number(moment.decay, r"\beta")
        ahead = getattr(moment, "nesterov", False)
        if callable(moment.decay):
            kept = Tex(rf"\prod_{{s \leq t}} {b.at('s').text}")
            kept = times(b, kept) if ahead else kept
        else:
            kept = Tex(rf"{b.within(2)}^{{{'t+1' if ahead else 't'}}}")
        heavy = getattr(moment, "form", "ema") == "heavy_ball"
        new = times(page.complement(moment.decay, r"\beta"), m) if heavy else m
        return page.define(m.accented("hat"), lambda _: fraction(new, plus(Tex("1"), kept, "-")))

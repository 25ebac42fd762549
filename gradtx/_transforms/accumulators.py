"""The sum of squares of AdaGrad, and the running variance of centered RMSProp.

Neither of the two is a `Moment` that `bias_correction` could divide by a gain: the sum of a constant
grows with every step, and the variance of a constant is 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.once import once
from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, square
from gradtx._core.layout import shared
from gradtx._core.lowering import Lowering
from gradtx._core.numerics import abs_square
from gradtx._core.places import Named
from gradtx._core.schedule import ScheduledState
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise, refuse_schedule
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules.lifted import lifted
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.narrow import (
    begin_rounding,
    begins_if_narrow,
    is_narrow,
    kept,
    refuse_small_range,
)


class CountedSumState(NamedTuple):
    """The state of `sum_of_squares` in bfloat16: the number of steps, and the sum."""

    count: Any
    sum_of_squares: Any


class sum_of_squares(Elementwise):
    r"""The update is the sum of the squared gradients so far.

    $$ u_t = G_t = G_{t-1} + w_t\, |g_t|^2 $$

    The sum stops growing at half the largest number of its dtype, so it stays finite. The state is
    `optax.ScaleByRssState(sum_of_squares)`.

    In bfloat16, a sum that is rounded to nearest stops at 256 times its summands. So the sum is rounded
    at random to one of its two neighbors, such that it is right on average, and the state is
    `CountedSumState(count, sum_of_squares)`.

    Args:
        initial: $G_0 \ge 0$, a number or an array.
        accumulator_dtype: the dtype of $G$. None means the real dtype of the parameter, and float32 at
            least. "bfloat16" is the only narrower one.
        weight: $w \ge 0$, a number, a schedule, or an array under `vmap`.

    Raises:
        ValueError: if `initial` or `weight` is negative, or if `accumulator_dtype` has a smaller range
            than bfloat16.
        TypeError: if `initial` is a schedule.

    Source: Duchi, Hazan & Singer, 2011.
    """

    initial: Fixed = 0.0
    accumulator_dtype: DTypeLike | None = None
    weight: Hyper = 1.0
    limits = {"initial": "[0, inf)", "weight": "[0, inf)"}
    degrees = {"sum_of_squares": 2}
    begins = begins_if_narrow

    def validate(self) -> None:
        refuse_schedule(self, "initial")
        refuse_small_range(self)

    def init_leaf(self, param: Any) -> Any:
        dtype, initial = self.accumulator_dtype, self.initial
        total = accumulator(param, dtype, real=True, fill=initial)
        return (
            CountedSumState(shared(0), total) if is_narrow(dtype) else optax.ScaleByRssState(total)
        )

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        return begin_rounding(state) if self.begins else (state, measured)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, seed: Any = None
    ) -> tuple[jax.Array, Any]:
        # Each square is finite, but their sum may overflow, so the sum is bounded by a number that can
        # still divide. The square is bounded, and not the new sum: XLA would write the unbounded sum to
        # memory.
        total = state.sum_of_squares
        room = 0.5 * jnp.finfo(total.dtype).max - total
        square = abs_square(update)
        if not (isinstance(self.weight, float) and self.weight == 1):
            square = self.weight * square
        total = total + jnp.minimum(square, room)
        new = kept(total, self.accumulator_dtype, seed)
        return total, state._replace(sum_of_squares=new)

    def tex(self, g: Tex, page: Page) -> Tex:
        weight = page.number(self.weight, "w")
        return page.average("G", 1.0, square(g), weight=weight, initial=self.initial)


class CenteredMomentState(NamedTuple):
    """The state of `centered_second_moment`: the average gradient `mu` and the running variance `nu`."""

    mu: Any
    nu: Any


class _CountedCenteredState(NamedTuple):
    count: Any
    mu: Any
    nu: Any


class centered_second_moment(Recipe):
    r"""The update is the running variance of the gradients.

    $$ u_t = s_t = b\, s_{t-1} + \frac{1 - b}{b}\, |g_t - m_t|^2, \qquad
       m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    In exact arithmetic $s_t$ is $v_t - |m_t|^2$, where $v$ is the average of $|g|^2$. The difference of
    two rounded averages can be negative, while this recursion cannot. The state is
    `CenteredMomentState(mu, nu)`, where `mu` is $m$ and `nu` is $s$, which is real.

    Args:
        decay: $b$, in [0, 1).
        initial: $s_0 \ge 0$, a number or an array. $m_0$ is 0.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial` is a schedule.

    Sources: Graves, 2013, arXiv:1308.0850, eq. 38-40; the recursion is from Welford, 1962, and its form
    for exponential averages from Finch, 2009.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.centered_second_moment(0.5)
    >>> float(tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))[0])  # the variance of 0 and 4
    4.0
    """

    decay: Hyper = 0.9
    initial: Fixed = 0.0
    limits = {"decay": "[0, 1)", "initial": "[0, inf)"}
    linear = False  # the difference of two numbers must be finite

    def validate(self) -> None:
        refuse_schedule(self, "initial")
        super().validate()

    def state(self) -> Any:
        return _CountedCenteredState if callable(self.decay) else CenteredMomentState

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream, state = super().lower(low, stream)
        if callable(self.decay):
            count, *moments = state.public
            state = Named(ScheduledState(count, CenteredMomentState(*moments)), state.plain)
        return stream, state

    def expand(self) -> Transform:
        # The distance is taken from the new mean, which is nearer by the factor b. At b = 0 it is 0.
        m = once(scale_by_momentum(self.decay), "mean")
        away = (identity() - m) / lifted("raised_to", self.decay, 0.5)
        return chain(away, second_moment(self.decay, initial=self.initial))

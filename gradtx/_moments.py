"""Moments: averages of the gradient and of its square, their roots, and their bias correction."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core import Recipe, Transform
from gradtx._elementwise import Elementwise, Wrapper, next_count, scheduled, scheduled_fields
from gradtx._tree import abs_square, accumulator, scalar, scalar_dtype
from gradtx._value import Hyper


class MomentumState(NamedTuple):
    """The average (or sum) of past gradients, `mu`, like the parameters."""

    mu: Any


class scale_by_momentum(Elementwise):
    r"""Momentum: the gradient is replaced by an average of the gradients so far.

    $$ m_t = b\, m_{t-1} + (1 - b)\, g_t \quad\text{("ema")}, \qquad
       m_t = b\, m_{t-1} + g_t \quad\text{("heavy\_ball")}, \qquad u_t = m_t, $$

    from $m_0 = 0$; with `nesterov=True` the update looks one step ahead,
    $u_t = b\, m_t + (1 - b)\, g_t$ or $u_t = b\, m_t + g_t$: the parameters that it moves are then the
    shifted iterate at which the gradient is to be taken.

    Args:
        decay: $b$, in [0, 1); 1 is allowed for "heavy_ball", which then sums.
        form: "ema" (the note, Adam) or "heavy_ball" (Polyak; torch, `optax.trace`).
        nesterov: whether the update looks ahead.
        accumulator_dtype: of `mu`; by default the parameter's, and float32 at least.

    Raises `ValueError` for a decay outside its interval or an unknown form. Sources: Polyak, 1964;
    Nesterov, 1983; Sutskever et al., 2013.
    """

    decay: Hyper = 0.9
    form: str = "ema"
    nesterov: bool = False
    accumulator_dtype: str | None = None
    limits = {"decay": "[0, 1]"}

    def validate(self) -> None:
        if self.form not in ("ema", "heavy_ball"):
            raise ValueError(
                f"`scale_by_momentum(form={self.form!r})` must be 'ema' or 'heavy_ball'."
            )
        if self.form == "ema" and isinstance(self.decay, float) and self.decay == 1:
            raise ValueError(
                "`scale_by_momentum(decay=1.0)` never takes a gradient in; below 1 it does."
            )

    def init_leaf(self, param: Any) -> MomentumState:
        return MomentumState(mu=accumulator(param, self.accumulator_dtype))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        rate = 1 - self.decay if self.form == "ema" else 1.0
        mu = (
            average(state.mu, update, self.decay)
            if self.form == "ema"
            else self.decay * state.mu + update
        )
        return (self.decay * mu + rate * update if self.nesterov else mu), MomentumState(mu)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        r"""What a constant gradient of 1 comes out as, when $\log \prod b_t$ of the start is kept."""
        ahead = log_kept + log(decay) if self.nesterov else log_kept
        return -jnp.expm1(ahead) / (1.0 if self.form == "ema" else 1 - decay)


class SecondMomentState(NamedTuple):
    """The average of the squared gradients, `nu`, real and like the parameters."""

    nu: Any


class second_moment(Elementwise):
    r"""The running mean of squares: $u_t = v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2$, from $v_0 = 0$.

    Args:
        decay: $b$, in [0, 1).
        accumulator_dtype: of `nu`; by default the parameter's real one, and float32 at least.

    Complex gradients count with their absolute value. Source: Hinton, 2012, lecture 6e.
    """

    decay: Hyper = 0.999
    accumulator_dtype: str | None = None
    limits = {"decay": "[0, 1)"}
    squares = True

    def init_leaf(self, param: Any) -> SecondMomentState:
        return SecondMomentState(nu=accumulator(param, self.accumulator_dtype, real=True))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        nu = average(state.nu, abs_square(update), self.decay)
        return nu, SecondMomentState(nu)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """What a constant square of 1 comes out as."""
        return -jnp.expm1(log_kept)


def average(mean: jax.Array, x: jax.Array, decay: Any) -> jax.Array:
    """`decay * mean + (1 - decay) * x`, in the form whose fixed point is exactly `x`."""
    return mean + (1 - decay) * (x - mean)


def log(decay: Any) -> Any:
    """The logarithm of a decay by way of its complement, which is the number that moments use.

    Of a Python number in the host's float64; for an array 1 - decay is exact in its own precision.
    """
    if isinstance(decay, float):
        return math.log1p(-(1 - decay)) if decay > 0 else -math.inf
    return jnp.log1p(-(1 - scalar(decay)))


@jax.custom_jvp
def _sqrt(x: jax.Array) -> jax.Array:
    return jnp.sqrt(x)


@_sqrt.defjvp
def _sqrt_jvp(primals: Any, tangents: Any) -> Any:
    # The slope of the root at 0 is infinite; in a quotient with epsilon the true derivative there is
    # that of the numerator alone, so the root contributes 0.
    (x,), (dx,) = primals, tangents
    y = jnp.sqrt(x)
    return y, jnp.where(
        y == 0, jnp.zeros_like(dx), dx / (2 * jnp.where(y == 0, jnp.ones_like(y), y))
    )


class root(Wrapper):
    r"""The square root of what another transformation gives: $u = \sqrt{f(g)}$, with slope 0 at 0."""

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, state = self.inner.update_leaf(update, state, param)
        return _sqrt(update), state


class rms(Recipe):
    r"""The running root mean square, $u_t = \sqrt{v_t}$ with $v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2$."""

    decay: Hyper = 0.9

    def expand(self) -> Transform:
        return root(second_moment(self.decay))


class BiasCorrectionState(NamedTuple):
    """Steps taken; for a scheduled decay the logarithm of the start's remaining weight, as the sum and
    what rounding took from it (shape (2,)), else empty; and the moment's state."""

    count: Any
    log_kept: Any
    inner: Any


class bias_correction(Wrapper):
    r"""A moment divided by its gain, so that a constant gradient comes out unchanged.

    $$ \hat m_t = \frac{m_t}{1 - \prod_{s \le t} b_s}, \qquad 1 - b^t = -\operatorname{expm1}(t
       \operatorname{log1p}(-(1 - b))) $$

    `inner` is `scale_by_momentum` or `second_moment`; the gain of a heavy ball is $(1 - b^t)/(1 - b)$
    and that of a Nesterov average $1 - b^{t+1}$. Within 5e-7 (relative) from the first step on, also
    past step $2^{31}$. Raises `TypeError` for anything that has no such gain (a centred variance), and
    for a heavy ball whose decay is scheduled. Source: Kingma & Ba, 2014, arXiv:1412.6980, section 3.
    """

    def validate(self) -> None:
        super().validate()
        if not hasattr(self.inner, "gain"):
            raise TypeError(
                f"`bias_correction` divides a moment by its gain, and `{self.inner!r}` has none. Wrap "
                "`scale_by_momentum(...)` or `second_moment(...)` before taking roots or quotients."
            )
        if scheduled_fields(self.inner) and getattr(self.inner, "form", "ema") != "ema":
            raise TypeError(
                f"`bias_correction({self.inner!r})`: only an average has a gain under a schedule."
            )

    def init_shared(self) -> BiasCorrectionState:
        log_kept = np.zeros(2, scalar_dtype()) if isinstance(self.inner, scheduled) else ()
        return BiasCorrectionState(np.int32(0), log_kept, self.inner.init_shared())

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        inner, acting = self.inner.advance(shared.inner, look)
        count = next_count(shared.count)
        moment = acting.inner if isinstance(acting, scheduled) else acting
        if isinstance(self.inner, scheduled):
            log_kept = _compensated_add(shared.log_kept, log(moment.decay))
            total = log_kept[0]
        else:
            log_kept, total = (), scalar(count) * log(moment.decay)
        acting = bias_corrected(acting, moment.gain(total, moment.decay))
        return BiasCorrectionState(count, log_kept, inner), acting

    def init_leaf(self, param: Any) -> BiasCorrectionState:
        log_kept = None if isinstance(self.inner, scheduled) else ()
        return BiasCorrectionState(None, log_kept, self.inner.init_leaf(param))


class bias_corrected(Wrapper):
    """`bias_correction` at one step: the moment divided by a known gain."""

    gain: Hyper

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, inner = self.inner.update_leaf(update, state.inner, param)
        return update / self.gain, state._replace(inner=inner)


def _compensated_add(total: jax.Array, x: jax.Array) -> jax.Array:
    # Kahan, 1965: a plain float32 sum of logarithms would lose the corrections that it is there for.
    y = x - total[1]
    new = total[0] + y
    return jnp.stack([new, (new - total[0]) - y])

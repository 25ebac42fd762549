"""Moments: averages of the gradient and of its square, and their roots."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator, scalar
from gradtx._core.elementwise import Elementwise, Wrapper, refuse_schedule
from gradtx._core.numerics import abs_square, sqrt, squarable
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper


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
        form: "ema" (Adam) or "heavy_ball" (Polyak; torch, `optax.trace`).
        nesterov: whether the update looks ahead.
        accumulator_dtype: of `mu`; by default the parameter's, and float32 at least.

    Raises `ValueError` for a decay outside its interval or an unknown form. Sources: Polyak, 1964;
    Nesterov, 1983; Sutskever et al., 2013.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_momentum(0.5, form="heavy_ball")
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (1.0, 1.5)
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
    r"""The running mean of squares: $u_t = v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2$.

    Args:
        decay: $b$, in [0, 1).
        accumulator_dtype: of `nu`; by default the parameter's real one, and float32 at least.
        initial: $v_0 \ge 0$, a number or an array.

    Complex gradients count with their absolute value, and those above a bound ($2^{63}$ in float32)
    that keeps squares finite as that. Raises `ValueError` for a number outside its interval. Source:
    Hinton, 2012, lecture 6e.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.second_moment(0.75)
    >>> float(tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))[0])
    4.0
    """

    decay: Hyper = 0.999
    accumulator_dtype: str | None = None
    initial: Hyper = 0.0
    limits = {"decay": "[0, 1)", "initial": "[0, inf)"}
    squares = True

    def validate(self) -> None:
        refuse_schedule(self, "initial")

    def init_leaf(self, param: Any) -> SecondMomentState:
        dtype, initial = self.accumulator_dtype, self.initial
        return SecondMomentState(nu=accumulator(param, dtype, real=True, fill=initial))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        nu = average(state.nu, abs_square(squarable(update)), self.decay)
        return nu, SecondMomentState(nu)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """What a constant square of 1 comes out as."""
        return -jnp.expm1(log_kept)


def average(mean: jax.Array, x: jax.Array, decay: Any) -> jax.Array:
    """`decay * mean + (1 - decay) * x`, in forms that do not overflow between finite numbers."""
    # The first form keeps a slow average exactly at a constant; `x - mean` would overflow where both
    # are huge and opposite, and for a fast average so would the product.
    rate = 1 - decay
    slow, fast = mean + (rate * x - rate * mean), decay * mean + rate * x
    if isinstance(decay, float):
        return slow if decay >= 0.5 else fast
    return jnp.where(decay >= 0.5, slow, fast)


def log(decay: Any) -> Any:
    """The logarithm of a decay by way of its complement, which is the number that moments use.

    Of a Python number in the host's float64; for an array 1 - decay is exact in its own precision.
    """
    if isinstance(decay, float):
        return math.log1p(-(1 - decay)) if decay > 0 else -math.inf
    return jnp.log1p(-(1 - scalar(decay)))


class root(Wrapper):
    r"""The square root of what another transformation gives: $u = \sqrt{f(g)}$, with slope 0 at 0.

    Raises `TypeError` if `inner` does not work on one array at a time.
    """

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, state = self.inner.update_leaf(update, state, param)
        return sqrt(update), state


class rms(Recipe):
    r"""The running root mean square, $u_t = \sqrt{v_t}$ with $v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2$.

    Args:
        decay: $b$, in [0, 1).

    Raises `ValueError` for another decay. Source: Hinton, 2012, lecture 6e.

    >>> import gradtx
    >>> gradtx.identity() / (gradtx.rms(0.9) + 1e-8)  # RMSProp, but for the rate
    identity() / (rms() + 1e-08)
    """

    decay: Hyper = 0.9

    def expand(self) -> Transform:
        return root(second_moment(self.decay))


class RunningMaxState(NamedTuple):
    """The largest value so far, `maximum`, and the state of what gives them."""

    maximum: Any
    inner: Any


class running_max(Wrapper):
    r"""The largest that another transformation has given: $u_t = \max(u_{t-1}, f(g_t))$, $u_0 = 0$.

    Around a corrected second moment it is Optax's AMSGrad; a bias correction around it, torch's.
    Raises `TypeError` if `inner` does not work on one array at a time. Source: Reddi, Kale & Kumar,
    2018, arXiv:1904.09237.
    """

    def init_leaf(self, param: Any) -> RunningMaxState:
        return RunningMaxState(accumulator(param, real=True), self.inner.init_leaf(param))

    def init_shared(self) -> RunningMaxState:
        return RunningMaxState(None, self.inner.init_shared())

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        inner, acting = self.inner.advance(shared.inner, look)
        return RunningMaxState(None, inner), self._with(inner=acting)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, inner = self.inner.update_leaf(update, state.inner, param)
        maximum = jnp.maximum(state.maximum, update)
        return maximum, RunningMaxState(maximum, inner)

    @property
    def gain(self) -> Any:
        """The moment's own: the largest value for a constant gradient is the last one."""
        return self.inner.gain  # pyright: ignore[reportAttributeAccessIssue]

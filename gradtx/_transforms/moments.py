"""Moments: averages of the gradient and of its square, and their roots."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, complement, number, plus, sqrt as sqrt_tex, square, times
from gradtx._core.numerics import abs_square, average, average_of_squares, log, sqrt
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise, refuse_schedule
from gradtx._core.values import Hyper


class Moment(Elementwise):
    """An average or a sum of what comes in, which knows what a constant comes out as.

    Subclasses provide `decay`, a field, and `gain(log_kept, decay)`: what a constant of 1 comes out as,
    when the logarithm of the start's remaining weight is `log_kept`. `bias_correction` divides by it.
    """

    decay: Hyper = 0.9
    _hooks = Elementwise._hooks

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """What a constant of 1 comes out as."""
        raise TypeError(
            f"`{type(self).__name__}` defines no `gain`. A subclass of `Moment` provides "
            "`gain(log_kept, decay)`."
        )


class MomentumState(NamedTuple):
    """The average of past gradients, `mu`, like the parameters."""

    mu: Any


class scale_by_momentum(Moment):
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
        accumulator_dtype: of the average; by default the parameter's, and float32 at least.

    The state is `MomentumState(mu)`, or for a heavy ball `optax.TraceState(trace)`. Raises `ValueError`
    for a decay outside its interval or an unknown form. Sources: Polyak, 1964;
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
    linear = True
    degrees = {"mu": 1, "trace": 1}

    def validate(self) -> None:
        if self.form not in ("ema", "heavy_ball"):
            raise ValueError(
                f"`scale_by_momentum(form={self.form!r})` must be 'ema' or 'heavy_ball'."
            )
        if self.form == "ema" and isinstance(self.decay, float) and self.decay == 1:
            raise ValueError(
                "`scale_by_momentum(decay=1.0)` never takes a gradient in; below 1 it does."
            )

    def init_leaf(self, param: Any) -> Any:
        kind = MomentumState if self.form == "ema" else optax.TraceState
        return kind(accumulator(param, self.accumulator_dtype))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        (old,) = state
        average_form = self.form == "ema"
        m = average(old, update, self.decay) if average_form else self.decay * old + update
        rate = 1 - self.decay if average_form else 1.0
        return (self.decay * m + rate * update if self.nesterov else m), type(state)(m)

    def tex(self, g: Tex, page: Page) -> Tex:
        weight = complement(self.decay) if self.form == "ema" else Tex("1")
        m = page.average("m", self.decay, g, weight=weight)
        ahead = plus(times(number(self.decay), m), times(weight, g))
        return page.define("n", lambda _: ahead) if self.nesterov else m

    def gain(self, log_kept: Any, decay: Any) -> Any:
        r"""What a constant gradient of 1 comes out as, when $\log \prod b_t$ of the start is kept."""
        ahead = log_kept + log(decay) if self.nesterov else log_kept
        return -jnp.expm1(ahead) / (1.0 if self.form == "ema" else 1 - decay)


class SecondMomentState(NamedTuple):
    """The average of the squared gradients, `nu`, real and like the parameters."""

    nu: Any


class second_moment(Moment):
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
    degrees = {"nu": 2}

    def validate(self) -> None:
        refuse_schedule(self, "initial")

    def init_leaf(self, param: Any) -> SecondMomentState:
        dtype, initial = self.accumulator_dtype, self.initial
        return SecondMomentState(nu=accumulator(param, dtype, real=True, fill=initial))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        nu = average_of_squares(state.nu, abs_square(update), self.decay)
        return nu, SecondMomentState(nu)

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.average("v", self.decay, square(g), initial=self.initial)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """What a constant square of 1 comes out as."""
        return -jnp.expm1(log_kept)


class root(Wrapper, Elementwise):
    r"""The square root of what another transformation gives: $u = \sqrt{f(g)}$, with slope 0 at 0.

    Raises `TypeError` if `inner` is not a transformation.
    """

    linear = as_inner

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: Any) -> Any:
        return sqrt(update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return sqrt_tex(self.inner.tex(g, page))


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


class running_max(Wrapper, Elementwise):
    r"""The largest that another transformation has given: $u_t = \max(u_{t-1}, f(g_t))$, $u_0 = 0$.

    Around a corrected second moment it is Optax's AMSGrad; a bias correction around it, torch's.
    Raises `TypeError` if `inner` is not a transformation. Source: Reddi, Kale & Kumar, 2018,
    arXiv:1904.09237.
    """

    linear = as_inner

    degrees = {"maximum": 2}

    def init_leaf(self, param: Any, inner: Any) -> RunningMaxState:
        return RunningMaxState(accumulator(param, real=True), inner)

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: Any) -> Any:
        maximum = jnp.maximum(state.maximum, update)
        return maximum, state._replace(maximum=maximum)

    def tex(self, g: Tex, page: Page) -> Tex:
        x = page.symbol(self.inner.tex(g, page)).text
        letter = rf"\bar{{{x.removesuffix('_t')}}}"
        return page.define(letter, lambda m: Tex(rf"\max\left({m}_{{t-1}}, {x}\right)"))

"""Moments: running averages of the gradient and of its square."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, plus, square, times
from gradtx._core.layout import shared
from gradtx._core.limits import outside
from gradtx._core.numerics import abs_square, average, average_of_squares, log
from gradtx._core.static import show
from gradtx._core.unit import Elementwise, refuse_schedule
from gradtx._core.values import Fixed, Hyper
from gradtx._transforms.narrow import (
    begin_rounding,
    begins_if_narrow,
    is_narrow,
    kept,
    refuse_small_range,
)


class Moment(Elementwise):
    """A moment is a running average or a running sum whose output for a constant input is known.

    Subclasses provide `gain(log_kept, decay)`, the output for a constant input of 1. `bias_correction`
    divides the moment by this gain, so that a constant input comes out unchanged.

    Args:
        decay: the weight of the previous value at each step: a number, a schedule, or an array
            under `vmap`.

    Raises:
        TypeError: if a subclass that does not define `gain` is bias-corrected.
    """

    decay: Hyper = 0.9
    _hooks = Elementwise._hooks

    def gain(self, log_kept: Any, decay: Any) -> Any:
        r"""The output of this moment for a constant input of 1.

        Args:
            log_kept: the logarithm of the weight that the initial value still has,
                $\log \prod_{s \le t} b_s$.
            decay: the decay of this step, $b_t$.
        """
        raise TypeError(
            f"`{type(self).__name__}` does not define `gain`. A subclass of `Moment` provides "
            "`gain(log_kept, decay)`."
        )


class MomentumState(NamedTuple):
    """The state of `scale_by_momentum`: `mu` is the running average of the gradients."""

    mu: Any


class CountedMomentumState(NamedTuple):
    """The state of `scale_by_momentum` in a narrow dtype: the number of steps, and the average `mu`."""

    count: Any
    mu: Any


class CountedTraceState(NamedTuple):
    """The state of a heavy ball in a narrow dtype: the number of steps, and the sum `trace`."""

    count: Any
    trace: Any


class scale_by_momentum(Moment):
    r"""Momentum replaces the gradient by a running average or a running sum of the gradients so far.

    $$ m_t = b\, m_{t-1} + (1 - b)\, g_t \quad\text{("ema")}, \qquad
       m_t = b\, m_{t-1} + g_t \quad\text{("heavy\_ball")}, \qquad u_t = m_t, $$

    with $m_0 = 0$. With `nesterov=True` the update looks one step ahead: it is
    $u_t = b\, m_t + (1 - b)\, g_t$ or $u_t = b\, m_t + g_t$. The parameters are then the points at which
    Nesterov's method takes gradients, and `eval_params` computes the iterates of the method.

    Args:
        decay: $b$, in [0, 1). The form "heavy_ball" also takes 1, and is then the plain sum.
        form: "ema", the average that Adam uses, or "heavy_ball", Polyak's sum, which torch and
            `optax.trace` use.
        nesterov: whether the update looks one step ahead.
        accumulator_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
            A narrower dtype is rounded at random to one of the two neighbors, such that $m$ is right on
            average; rounded to nearest, it would stop where its steps are too small.

    The state is `MomentumState(mu)` or, for "heavy_ball", `optax.TraceState(trace)`. Both hold $m$. In a
    dtype narrower than float32, the state is `CountedMomentumState(count, mu)` or
    `CountedTraceState(count, trace)`, where `count` is the number of steps.

    Raises:
        ValueError: if `decay` lies outside its interval, or `form` is unknown.

    Sources: Polyak, 1964; Nesterov, 1983; Sutskever et al., 2013.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_momentum(0.5, form="heavy_ball")
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (1.0, 1.5)
    """

    decay: Hyper = 0.9
    form: Literal["ema", "heavy_ball"] = "ema"
    nesterov: bool = False
    accumulator_dtype: DTypeLike | None = None
    limits = {"decay": "[0, 1]"}
    linear = True
    keeps_zero = True
    degrees = {"mu": 1, "trace": 1}
    begins = begins_if_narrow

    def validate(self) -> None:
        if self.form not in ("ema", "heavy_ball"):
            raise ValueError(
                f"`scale_by_momentum(form={self.form!r})` must be 'ema' or 'heavy_ball'."
            )
        if self.form == "ema" and outside(self.decay, "[0, 1)"):
            raise ValueError(
                f"`scale_by_momentum(decay={show(self.decay)})` gives every gradient the weight 0. Pass "
                'a decay below 1, or `form="heavy_ball"` for the sum of all gradients.'
            )

    def init_leaf(self, param: Any) -> Any:
        average_form, m = self.form == "ema", accumulator(param, self.accumulator_dtype)
        if is_narrow(self.accumulator_dtype):
            return (CountedMomentumState if average_form else CountedTraceState)(shared(0), m)
        return (MomentumState if average_form else optax.TraceState)(m)

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        return begin_rounding(state) if self.begins else (state, measured)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, seed: Any = None
    ) -> tuple[jax.Array, Any]:
        old, average_form = state[-1], self.form == "ema"
        m = average(old, update, self.decay) if average_form else self.decay * old + update
        rate = 1 - self.decay if average_form else 1.0
        new = type(state)(*state[:-1], kept(m, self.accumulator_dtype, seed))
        return (self.decay * m + rate * update if self.nesterov else m), new

    def tex(self, g: Tex, page: Page) -> Tex:
        average_form = self.form == "ema"
        weight = page.complement(self.decay, r"\beta") if average_form else Tex("1")
        m = page.average("m", self.decay, g, weight=weight)
        ahead = plus(times(page.number(self.decay, r"\beta"), m), times(weight, g))
        return page.define("n", lambda _: ahead) if self.nesterov else m

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The output for a constant gradient of 1, see `Moment.gain`."""
        ahead = log_kept + log(decay) if self.nesterov else log_kept
        return -jnp.expm1(ahead) if self.form == "ema" else -jnp.expm1(ahead) / (1 - decay)


class SecondMomentState(NamedTuple):
    """The state of `second_moment`: `nu` is the running average of the squared gradients."""

    nu: Any


class CountedSecondMomentState(NamedTuple):
    """The state of `second_moment` in bfloat16: the number of steps, and the running average `nu`."""

    count: Any
    nu: Any


class second_moment(Moment):
    r"""The second moment is the running average of the squared gradients.

    $$ u_t = v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2 $$

    A finite entry above $2^{63}$ (in float32) counts as $2^{63}$, so that its square stays finite. The
    state is `SecondMomentState(nu)`, where `nu` is $v$.

    In bfloat16, an average that is rounded to nearest stops where its steps are too small. So $v$ is
    rounded at random to one of its two neighbors, such that it is right on average. The random numbers
    are a hash of the number of the step and of the position in the array, and the state is
    `CountedSecondMomentState(count, nu)`.

    Args:
        decay: $b$, in [0, 1).
        accumulator_dtype: the dtype of $v$. None means the real dtype of the parameter, and
            float32 at least. "bfloat16" is the only narrower one.
        initial: $v_0 \ge 0$, a number or an array.

    Raises:
        ValueError: if a number lies outside its interval, or if `accumulator_dtype` has a smaller range
            than bfloat16.
        TypeError: if `initial` is a schedule.

    Source: Hinton, 2012, lecture 6e.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.second_moment(0.75)
    >>> float(tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))[0])
    4.0
    """

    decay: Hyper = 0.999
    accumulator_dtype: DTypeLike | None = None
    initial: Fixed = 0.0
    limits = {"decay": "[0, 1)", "initial": "[0, inf)"}
    degrees = {"nu": 2}
    begins = begins_if_narrow

    def validate(self) -> None:
        refuse_schedule(self, "initial")
        refuse_small_range(self)

    def init_leaf(self, param: Any) -> Any:
        dtype, initial = self.accumulator_dtype, self.initial
        nu = accumulator(param, dtype, real=True, fill=initial)
        return (
            CountedSecondMomentState(shared(0), nu) if is_narrow(dtype) else SecondMomentState(nu)
        )

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        return begin_rounding(state) if self.begins else (state, measured)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, seed: Any = None
    ) -> tuple[jax.Array, Any]:
        nu = average_of_squares(state.nu, abs_square(update), self.decay)
        return nu, state._replace(nu=kept(nu, self.accumulator_dtype, seed))

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.average("v", self.decay, square(g), initial=self.initial)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The output for a constant square of 1, see `Moment.gain`."""
        return -jnp.expm1(log_kept)

"""NAdam's momentum: a running average of the gradients that looks one step ahead."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from gradtx._core.dtypes import accumulator, scalar
from gradtx._core.latex import Page, Tex, fraction, number, plus, times
from gradtx._core.layout import shared
from gradtx._core.numerics import average, compensated_add, log
from gradtx._core.random_bits import seed_of
from gradtx._core.schedule import at_step, next_count
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._transforms.narrow import is_narrow, kept


class NadamMomentumState(NamedTuple):
    """The state of `scale_by_nadam_momentum`.

    `count` is the number of steps taken, and `mu` the average $m$ of the gradients. Where the factors
    $\\mu_t$ change over the steps, `log_kept` is the sum of all $\\log \\mu_s$ and its rounding error,
    an array of shape (2,). Where they are constant, `log_kept` is empty.
    """

    count: Any
    log_kept: Any
    mu: Any


class scale_by_nadam_momentum(Elementwise):
    r"""NAdam's momentum is the corrected average one step ahead, plus a share of the gradient.

    $$ u_t = \frac{\mu_{t+1}\, m_t}{1 - \prod_{s \le t+1} \mu_s}
           + \frac{(1 - \mu_t)\, g_t}{1 - \prod_{s \le t} \mu_s}, \qquad
       m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    Args:
        decay: $b$, in [0, 1).
        momentum_decay: $\psi \ge 0$ of the warm-up $\mu_t = b\, (1 - 0.96^{\psi t} / 2)$, which torch
            and Keras use. None means $\mu_t = b$, which Optax uses.
        accumulator_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
            A narrower dtype is rounded at random, see `scale_by_momentum`.

    This differs from a Nesterov average that is divided by its gain, because here each of the two terms
    has a correction of its own. The state is `NadamMomentumState(count, log_kept, mu)`.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Dozat, 2016.
    """

    decay: Hyper = 0.9
    momentum_decay: Hyper | None = None
    accumulator_dtype: DTypeLike | None = None
    limits = {"decay": "[0, 1)", "momentum_decay": "[0, inf)"}
    linear = True
    keeps_zero = True
    degrees = {"mu": 1}
    asks_schedules = False  # `begin` evaluates a schedule at two steps, so it does this itself

    def init_leaf(self, param: Any) -> NadamMomentumState:
        changes = callable(self.decay) or self.momentum_decay is not None
        log_kept = shared(np.zeros(2)) if changes else ()
        return NadamMomentumState(shared(0), log_kept, accumulator(param, self.accumulator_dtype))

    def begin(self, state: NadamMomentumState, measured: Any) -> tuple[NadamMomentumState, Any]:
        count = next_count(state.count)
        rate, log_mu = self._rate_at(state.count)
        rate_next, log_next = self._rate_at(count)
        if isinstance(state.log_kept, tuple):
            log_weight = scalar(count) * log_mu
        else:
            state = state._replace(log_kept=compensated_add(state.log_kept, log_mu))
            log_weight = state.log_kept[0]
        ahead = (1 - rate_next) / -jnp.expm1(log_weight + log_next)
        now = rate / -jnp.expm1(log_weight)
        decay = at_step(self.decay, state.count) if callable(self.decay) else None
        seed = seed_of(count, 0) if is_narrow(self.accumulator_dtype) else None
        return state._replace(count=count), (decay, ahead, now, seed)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, factors: Any
    ) -> tuple[jax.Array, Any]:
        decay, ahead, now, seed = factors
        # `begin` passes None for a constant decay: as an array it would be rounded to float32.
        mu = average(state.mu, update, self.decay if decay is None else decay)
        new = state._replace(mu=kept(mu, self.accumulator_dtype, seed))
        return ahead * mu + now * update, new

    def _rate_at(self, count: Any) -> tuple[Any, Any]:
        """$1 - \\mu$ and $\\log \\mu$ for the step that follows `count` steps."""
        decay = at_step(self.decay, count)
        if self.momentum_decay is None:
            return 1 - decay, log(decay)
        steps = scalar(at_step(self.momentum_decay, count)) * (scalar(count) + 1)
        rate = (1 - decay) + 0.5 * decay * jnp.exp(log(0.96) * steps)
        return rate, jnp.log1p(-rate)

    @property
    def bare(self) -> Any:
        changes = [n for n in ("decay", "momentum_decay") if callable(getattr(self, n))]
        return self._with(**dict.fromkeys(changes)) if changes else self

    def tex(self, g: Tex, page: Page) -> Tex:
        m = page.average("m", self.decay, g)
        mu = b = page.number(self.decay, r"\beta")
        if self.momentum_decay is not None:
            psi = page.number(self.momentum_decay, r"\psi")
            power = Tex(rf"0.96^{{{psi.within(1)}\, t}}", 1)
            warmup = plus(Tex("1"), times(number(0.5), power), "-")
            mu = page.define(r"\mu", lambda _: times(b, warmup))
        elif callable(self.decay):
            mu = page.define(r"\mu", lambda _: b)

        def gain(last: str) -> Tex:
            constant = mu.at(last) == mu
            product = rf"{mu.within(2)}^{{{last}}}"
            kept = product if constant else rf"\prod_{{s \leq {last}}} {mu.at('s').text}"
            return plus(Tex("1"), Tex(kept), "-")

        rest = page.complement(self.decay, r"\beta") if mu == b else plus(Tex("1"), mu, "-")
        ahead = fraction(times(mu.at("t+1"), m), gain("t+1"))
        now = fraction(times(rest, g), gain("t"))
        return page.define("n", lambda _: plus(ahead, now))

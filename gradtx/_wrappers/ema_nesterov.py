"""Gradients ahead of the parameters, in the direction of an average of their past moves."""

from typing import Any, NamedTuple

import jax

from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, plus, times
from gradtx._core.layout import shared
from gradtx._core.numerics import average
from gradtx._core.schedule import at_step, next_count
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class EmaNesterovState(NamedTuple):
    """The state of `ema_nesterov`.

    Attributes:
        count: the number of steps taken.
        beta: the factor with which the trained parameters lie ahead.
        mu: the average of the moves of the iterates.
        inner: the state of the inner transformation.
    """

    count: Any
    beta: Any
    mu: Any
    inner: Any


class ema_nesterov(Wrapper, Elementwise):
    r"""Take gradients ahead of the iterates, in the direction of an average of their past moves.

    $$ \theta_t = \varphi_{t-1} + u_t, \qquad
       m_t = \gamma\, m_{t-1} + (1 - \gamma) (\theta_t - \theta_{t-1}), \qquad
       \varphi_t = \theta_t + \beta_{t+1} m_t $$

    The updates $u$ are those of `inner`. The trained parameters are $\varphi$, at which gradients are
    taken, and `gradtx.eval_params(tx, params, state)` returns the iterates $\theta$. The momentum is one
    of the moves, and not of the gradients, so it looks ahead whatever `inner` is, for example `muon`.

    Args:
        inner: the optimizer with its learning rate, of gradtx or of Optax.
        decay: $\gamma$, the decay of the average, in [0, 1).
        beta: $\beta \ge 0$, how far ahead the gradients are taken, in units of the average move. The
            paper lets $\beta$ follow the learning rate, and sets it to 0 in the first steps.

    The state is `EmaNesterovState(count, beta, mu, inner)`.

    Raises:
        TypeError: if `inner` is not a transformation, or if it keeps parameters of its own to evaluate
            with, such as an average.
        ValueError: if a number lies outside its interval.

    Source: Yau et al., 2026, arXiv:2605.25395.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.ema_nesterov(gradtx.sgd(1.0), decay=0.5, beta=1.0)
    >>> params = jnp.zeros(())
    >>> u, state = tx.update(jnp.ones(()), tx.init(params), params)
    >>> float(u), float(gradtx.eval_params(tx, params + u, state))
    (-1.5, -1.0)
    """

    decay: Hyper = 0.99
    beta: Hyper = 0.6
    limits = {"decay": "[0, 1)", "beta": "[0, inf)"}
    linear = as_inner
    asks_schedules = False  # `beta` belongs to the next step

    def init_leaf(self, param: Any, inner: Any) -> EmaNesterovState:
        return EmaNesterovState(shared(0), shared(0.0), accumulator(param), inner)

    def begin(self, state: EmaNesterovState, measured: Any) -> tuple[EmaNesterovState, Any]:
        count = next_count(state.count)
        decay = at_step(self.decay, state.count, "ema_nesterov(decay=...)")
        beta = at_step(self.beta, count, "ema_nesterov(beta=...)")
        return state._replace(count=count, beta=beta), (decay, state.beta, beta)

    def update_leaf(
        self, update: jax.Array, state: EmaNesterovState, param: Any, given: Any, values: Any
    ) -> tuple[jax.Array, EmaNesterovState]:
        decay, old, beta = values
        # The iterate before this step was phi - beta m, so that its move is u + beta m.
        mu = average(state.mu, update + old * state.mu, decay)
        return update + beta * mu, state._replace(mu=mu)

    def eval_tree(self, params: PyTree, state: EmaNesterovState) -> PyTree:
        """The parameters to evaluate with, given the parameters and the state of this wrapper."""
        return tree_map(
            lambda p, m: p - state.beta.astype(p.dtype) * m.astype(p.dtype),
            params,
            state.mu,
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        update = page.symbol(self.inner.tex(g, page))
        beta = page.number(self.beta, r"\beta")
        keep, rest = page.number(self.decay, r"\gamma"), page.complement(self.decay, r"\gamma")

        def definition(m: str) -> Tex:
            old = Tex(f"{m}_{{t-1}}")
            return plus(times(keep, old), times(rest, plus(update, times(beta, old))))

        mean = page.from_zero(page.define("m", definition))
        return plus(update, times(beta.at("t+1"), mean))

"""A pull of the parameters towards the point at which training began."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import accumulator, promote
from gradtx._core.latex import THETA, Page, Tex, plus, times
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class PullToStartState(NamedTuple):
    """The state of `pull_to_start`: `start` holds the parameters before the first step."""

    start: Any


class pull_to_start(Elementwise):
    r"""A share of the way back to the first parameters is added to the update.

    $$ u_t = g_t + w_t\, (\theta_0 - \theta_{t-1}) $$

    Behind the learning rate, $g_t$ is the step that is about to be taken. A weight of 1 turns sums of
    gradients into steps from $\theta_0$, as dual averaging does. The weight $1 / (t + 1)$ is used in
    place of a weight decay (`soda`).

    Args:
        weight: $w$, a number, a schedule, or an array under `vmap`.

    The state is `PullToStartState(start)`, where `start` is $\theta_0$, in float32 at least.

    Raises:
        ValueError: if `update` is called without the parameters.
        TypeError: if `weight` is not a number, an array or a schedule.

    Source: Nesterov, 2009, "Primal-dual subgradient methods for convex problems" (dual averaging).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.pull_to_start(0.5)
    >>> state = tx.init(jnp.full((), 4.0))
    >>> float(tx.update(jnp.zeros(()), state, jnp.full((), 10.0))[0])
    -3.0
    """

    weight: Hyper
    limits = {"weight": "(-inf, inf)"}
    linear = True
    degrees = {"start": 0}

    def init_leaf(self, param: Any) -> PullToStartState:
        if isinstance(param, jax.ShapeDtypeStruct):
            return PullToStartState(accumulator(param))
        # The library copies it if it is the parameter itself.
        return PullToStartState(param.astype(promote(param.dtype, jnp.float32)))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return update + self.weight * (state.start - param), state

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes[r"\theta_0"] = r"\text{: the parameters before the first step}"
        way = plus(Tex(r"\theta_0"), THETA, "-")
        return plus(g, times(page.number(self.weight, "w"), way))

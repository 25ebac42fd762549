"""Scaling: updates multiplied by a number or by the learning rate, or replaced by their signs."""

from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, call, times
from gradtx._core.layout import shared
from gradtx._core.quotients import sign
from gradtx._core.schedule import next_count
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class scale(Elementwise):
    r"""The update is multiplied by a number.

    $$ u = c\, g $$

    Args:
        step_size: $c$, a number, a schedule, or an array under `vmap`. A schedule is called with 0 at
            the first step.

    Raises:
        TypeError: if `step_size` is not a number, an array or a schedule.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale(lambda step: 1 / (1 + step))
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (1.0, 0.5)
    """

    step_size: Hyper
    limits = {"step_size": "(-inf, inf)"}
    linear = True
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return self.step_size * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        return times(page.number(self.step_size), g)


class LearningRateState(NamedTuple):
    """The state of `scale_by_learning_rate`.

    `step` is the number of steps taken, and `last_learning_rate` the learning rate of the last step.
    Before the first step, `last_learning_rate` is the learning rate of the first step.
    """

    step: Any
    last_learning_rate: Any


class scale_by_learning_rate(Elementwise):
    r"""The update is multiplied by the learning rate, and its sign is flipped for a step downhill.

    $$ u_t = -\eta_t\, g_t $$

    Args:
        learning_rate: $\eta$, a number, an array under `vmap`, or a schedule, which may be one of
            Optax's. A schedule is called with 0 at the first step. A negative rate ascends.
        flip_sign: whether the sign is flipped. With False, $u_t = \eta_t\, g_t$, which ascends.

    The state is `LearningRateState(step, last_learning_rate)`. It records the rate that was applied, so
    that `gradtx.get(state, "last_learning_rate")` reads it.

    Raises:
        TypeError: if `learning_rate` is not a number, an array or a schedule.

    Source: Robbins & Monro, 1951.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_learning_rate(lambda step: 0.1 * 0.5**step)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> u, state = tx.update(jnp.ones(()), state)
    >>> float(u), float(gradtx.get(state, "last_learning_rate"))
    (-0.05, 0.05)
    """

    learning_rate: Hyper
    limits = {"learning_rate": "(-inf, inf)"}
    flip_sign: bool = True
    linear = True
    keeps_zero = True

    def init_leaf(self, param: Any) -> LearningRateState:
        return LearningRateState(step=shared(0), last_learning_rate=shared(0.0))

    def first_state(self, state: LearningRateState) -> LearningRateState:
        return state._replace(last_learning_rate=self.at(0).learning_rate)

    def begin(self, state: LearningRateState, measured: Any) -> tuple[LearningRateState, Any]:
        rate = scalar(self.learning_rate)
        factor = -rate if self.flip_sign else rate  # once, and not for every leaf
        return LearningRateState(next_count(state.step), rate), factor

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, factor: Any
    ) -> tuple[jax.Array, Any]:
        return factor * update, state

    def remark(self) -> str:
        """What `summarize` says about the sign of the learning rate."""
        rates = [self.learning_rate]
        if callable(self.learning_rate):
            rates = [self.learning_rate(np.int32(step)) for step in (0, 1, 10, 100, 1000, 10_000)]
        negative = np.concatenate([np.ravel(np.asarray(rate)) for rate in rates]) < 0
        if not self.flip_sign or not negative.any():
            return ""
        return f"ascends {'since' if negative.all() else 'where'} the rate is negative"

    def tex(self, g: Tex, page: Page) -> Tex:
        step = times(page.number(self.learning_rate, r"\eta"), g)
        return times(Tex("-1"), step) if self.flip_sign else step


class scale_by_sign(Elementwise):
    """Every entry of the update is replaced by its sign.

    $$ u = g / |g| $$

    The sign of 0 is 0, and the sign of a complex number is the number divided by its absolute value.

    Source: Bernstein et al., 2018, arXiv:1802.04434 (signSGD).
    """

    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return sign(update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return call("sign", g)

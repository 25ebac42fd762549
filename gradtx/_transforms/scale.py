"""Multiplying updates: by a number, a schedule, the learning rate, the sign."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, call, number, times
from gradtx._core.layout import shared
from gradtx._core.schedule import next_count
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class scale(Elementwise):
    r"""Updates times a number: $u = c\, g$.

    Args:
        step_size: $c$, a number, an array or a schedule, which sees 0 at the first step.

    Raises `TypeError` for anything else.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale(lambda step: 1 / (1 + step))
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (1.0, 0.5)
    """

    step_size: Hyper
    linear = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return self.step_size * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        return times(number(self.step_size), g)


class LearningRateState(NamedTuple):
    """Steps taken, and the learning rate that the last one used (0 before the first)."""

    step: Any
    last_learning_rate: Any


class scale_by_learning_rate(Elementwise):
    r"""The step downhill: $u_t = -\eta_t\, g_t$, where a schedule sees $\eta(0)$ at the first step.

    Args:
        learning_rate: a number, an array, or any function of the step (Optax's schedules too).
        flip_sign: whether the minus is there; without it updates ascend.

    The state records the rate that was applied, so that `gradtx.get(state, "last_learning_rate")`
    reads it. Raises `ValueError` for a negative rate. Source: Robbins & Monro, 1951.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_learning_rate(lambda step: 0.1 * 0.5**step)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> u, state = tx.update(jnp.ones(()), state)
    >>> float(u), float(gradtx.get(state, "last_learning_rate"))
    (-0.05, 0.05)
    """

    learning_rate: Hyper
    flip_sign: bool = True
    limits = {"learning_rate": "[0, inf)"}
    linear = True

    def init_leaf(self, param: Any) -> LearningRateState:
        return LearningRateState(step=shared(0), last_learning_rate=shared(0.0))

    def begin(self, state: LearningRateState, measured: Any) -> tuple[LearningRateState, Any]:
        rate = scalar(self.learning_rate)
        return LearningRateState(next_count(state.step), rate), rate

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, rate: Any
    ) -> tuple[jax.Array, Any]:
        return (-rate if self.flip_sign else rate) * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        step = times(number(self.learning_rate), g)
        return times(Tex("-1"), step) if self.flip_sign else step


class scale_by_sign(Elementwise):
    """The sign of every entry, $u = g / |g|$, of a complex one its direction; 0 for 0.

    Source: Bernstein et al., 2018, arXiv:1802.04434 (signSGD).
    """

    linear = True  # it takes gradients of any size

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return jnp.sign(update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return call("sign", g)

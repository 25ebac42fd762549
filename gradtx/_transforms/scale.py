"""Multiplying updates: by a number, a schedule, the learning rate, the sign."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.elementwise import Elementwise, at_step, next_count
from gradtx._core.transform import Transform
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

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return self.step_size * update, state


class LearningRateState(NamedTuple):
    """Steps taken, and the learning rate that the last one used (0 before the first)."""

    count: Any
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

    def init_shared(self) -> LearningRateState:
        return LearningRateState(np.int32(0), np.zeros((), scalar_dtype()))

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        rate = scalar(at_step(self.learning_rate, shared.count))
        return LearningRateState(next_count(shared.count), rate), self._with(learning_rate=rate)

    def init_leaf(self, param: Any) -> LearningRateState:
        return LearningRateState(None, None)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return (-self.learning_rate if self.flip_sign else self.learning_rate) * update, state

    def working(self) -> Transform:
        return self  # resolves its schedule itself, since it records the value


class scale_by_sign(Elementwise):
    """The sign of every entry, $u = g / |g|$, of a complex one its direction; 0 for 0.

    Source: Bernstein et al., 2018, arXiv:1802.04434 (signSGD).
    """

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return jnp.sign(update), state

"""QHM and AggMo, whose steps are weighted sums of momenta."""

from typing import Any

from gradtx._compose.chain import identity
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import descent
from gradtx._schedules.lifted import lifted
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale


class qhm(Recipe):
    r"""Quasi-hyperbolic momentum steps by a mixture of the gradient and the momentum.

    $$ u_t = -\eta\, ((1 - \nu)\, g_t + \nu\, m_t + \lambda\, \theta), \qquad
       m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    With $\nu = 0$ this is SGD, with $\nu = 1$ momentum, and with $\nu = b$ Nesterov's momentum.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        momentum: $b$, the decay of the momentum $m$, in [0, 1).
        nu: $\nu$, the share of the momentum, in [0, 1].
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state is that of `expand()`: `MomentumState(mu)`, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Ma & Yarats, 2018, arXiv:1810.06801, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.qhm(1.0, momentum=0.75, nu=0.5)
    >>> float(tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0])  # 0.5 + 0.5 * 0.25
    -0.625
    """

    learning_rate: Hyper
    momentum: Hyper = 0.999
    nu: Hyper = 0.7
    weight_decay: Hyper = 0.0
    mask: Any = None
    limits = {"nu": "[0, 1]"}

    def expand(self) -> Transform:
        m = scale_by_momentum(self.momentum)
        return descent(self, identity() * lifted("-", 1, self.nu) + m * self.nu)


class aggmo(Recipe):
    r"""Aggregated momentum steps by the mean of several heavy balls with different decays.

    $$ u_t = -\eta\, \Big(\frac1K \sum_{i=1}^K m_{t,i} + \lambda\, \theta\Big), \qquad
       m_{t,i} = b_i\, m_{t-1,i} + g_t $$

    The fast heavy balls damp the oscillations of the slow ones.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        betas: $b_1, \dots, b_K$, each in [0, 1].
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state is that of `expand()`: `optax.TraceState(trace)` with $m_i$ for each decay, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Lucas et al., 2018, arXiv:1804.00325, eq. 3.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.aggmo(1.0, betas=(0.0, 0.5))
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (-1.0, -1.25)
    """

    learning_rate: Hyper
    betas: tuple[Hyper, ...] = (0.0, 0.9, 0.99)
    weight_decay: Hyper = 0.0
    mask: Any = None

    def expand(self) -> Transform:
        balls = [scale_by_momentum(b, form="heavy_ball") for b in self.betas]
        return descent(self, fanout("add", *balls), scale(lifted("/", 1, len(balls))))

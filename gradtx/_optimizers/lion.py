"""Lion and Signum, whose steps are the signs of a momentum."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import descent
from gradtx._transforms.lion import scale_by_lion
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale_by_sign
from gradtx._wrappers.cautious import cautious


class lion(Recipe):
    r"""Lion steps by the sign of a mixture of the momentum and the gradient.

    $$ u = -\eta\, (\operatorname{sign}(b_1 m_{t-1} + (1 - b_1)\, g_t) + \lambda\, \theta), \qquad
       m_t = b_2 m_{t-1} + (1 - b_2)\, g_t $$

    All entries move equally far, so the learning rate is 3 to 10 times smaller than that of AdamW, and
    the weight decay as much larger.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the share of the momentum in the mixture, in [0, 1).
        b2: the decay of the momentum $m$, in (0, 1).
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        cautious_update: whether only those entries move whose update agrees with the gradient, as in
            C-Lion (`cautious`).

    The state holds `MomentumState(mu)`, where `mu` is $m$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Sources: Chen et al., 2023, arXiv:2302.06675, algorithm 2; Liang et al., 2024, arXiv:2411.16085,
    (C-Lion).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.lion(0.1, weight_decay=0.0), jnp.zeros(2)
    >>> tx.update(jnp.array([1e-3, -7.0]), tx.init(w), w)[0]
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.99
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 1e-3
    mask: Any = None
    cautious_update: bool = False

    def expand(self) -> Transform:
        step = scale_by_lion(self.b1, self.b2, self.mu_dtype)
        return descent(self, cautious(step) if self.cautious_update else step)


class signum(Recipe):
    r"""Signum steps by the sign of the momentum.

    $$ u = -\eta\, (\operatorname{sign}(m_t) + \lambda\, \theta), \qquad
       m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        momentum: $b$, the decay of the momentum $m$, in [0, 1). With 0 this is signSGD.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state holds `MomentumState(mu)`, where `mu` is $m$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Bernstein et al., 2018, arXiv:1802.04434, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.signum(0.1)
    >>> _, state = tx.update(jnp.full((), 5.0), tx.init(jnp.zeros(())))
    >>> float(tx.update(jnp.full((), -1.0), state)[0])  # the momentum is still positive
    -0.1
    """

    learning_rate: Hyper
    momentum: Hyper = 0.9
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    instead = {"beta": "write `momentum=`", "accumulator_dtype": "write `mu_dtype=`"}

    def expand(self) -> Transform:
        m = scale_by_momentum(self.momentum, accumulator_dtype=self.mu_dtype)
        return descent(self, m, scale_by_sign())

"""Adamax and AdamaxW, which divide a momentum by a decaying maximum of the sizes of the gradients."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.adamax import scale_by_adamax
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.scale import scale_by_learning_rate


class adamax(Recipe):
    r"""Adamax divides an average of the gradients by the largest of their sizes, which decays.

    $$ u = -\eta\, \hat m / v, \qquad \hat m = m / (1 - b_1^t), \qquad
       v_t = \max(b_2\, v_{t-1}, |g_t| + \epsilon) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the maximum $v$, in [0, 1].
        eps: $\epsilon \ge 0$, which is added to the sizes. The paper has none.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamax(0.1)
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), tx.init(jnp.zeros(2)))[0], 4)
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8

    def expand(self) -> Transform:
        step = scale_by_adamax(self.b1, self.b2, self.eps)
        return chain(step, scale_by_learning_rate(self.learning_rate))


class adamaxw(Recipe):
    r"""AdamaxW is Adamax with a weight decay that is added to the update and stays out of the averages.

    $$ u = -\eta\, (\hat m / v + \lambda\, \theta) $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the maximum $v$, in [0, 1].
        eps: $\epsilon \ge 0$, which is added to the sizes, as in `adamax`.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Sources: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 2; Loshchilov & Hutter, 2017,
    arXiv:1711.05101.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adamaxw(0.1, weight_decay=0.01)
    >>> w = jnp.array([1.0, 10.0])
    >>> tx.update(jnp.zeros(2), tx.init(w), w)[0]  # the gradient is 0, so the decay acts alone
    Array([-0.001, -0.01 ], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    weight_decay: Hyper = 1e-4
    mask: Any = None

    def expand(self) -> Transform:
        step = scale_by_adamax(self.b1, self.b2, self.eps)
        decay = decoupled_weight_decay(self.weight_decay, mask=self.mask)
        return chain(step, decay, scale_by_learning_rate(self.learning_rate))

"""Yogi, which is Adam with a second moment that falls slowly."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.scale import scale_by_learning_rate
from gradtx._transforms.yogi import scale_by_yogi


class yogi(Recipe):
    r"""Yogi is Adam with a second moment that changes by a share of one square at most.

    $$ u = -\eta\, \hat m / (\sqrt{\hat v} + \epsilon), \qquad
       v_t = v_{t-1} - (1 - b_2)\, \operatorname{sign}(v_{t-1} - |g_t|^2)\, |g_t|^2 $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of $v$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Zaheer et al., 2018, "Adaptive methods for nonconvex optimization", algorithm 2. The paper
    has no bias correction, and Optax has one.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.yogi(0.1)
    >>> [round(float(u), 4) for u in tx.update(jnp.array([1.0, -0.5]), tx.init(jnp.zeros(2)))[0]]
    [-0.0999, 0.0996]
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-3

    def expand(self) -> Transform:
        step = scale_by_yogi(self.b1, self.b2, self.eps)
        return chain(step, scale_by_learning_rate(self.learning_rate))

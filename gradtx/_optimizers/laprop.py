"""LaProp, which divides by the root mean square before the momentum and not after it."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import descent
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root


class laprop(Recipe):
    r"""LaProp is the momentum of gradients that were divided by their root mean square.

    $$ u = -\eta\, (\hat m_t + \lambda\, \theta), \qquad
       m_t = b_1 m_{t-1} + (1 - b_1)\, \frac{g_t}{\sqrt{\hat v_t} + \epsilon} $$

    In Adam the momentum is divided by the present root mean square. Here every gradient is divided by
    that of its own step, so the step stays small for every choice of the two decays.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the momentum $m$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The authors' code corrects the momentum by an average of the learning rates, which is the same for a
    constant rate.

    The state is that of `expand()`: a counter and `SecondMomentState(nu)`, a counter and
    `MomentumState(mu)`, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Ziyin, Wang & Ueda, 2020, arXiv:2002.04839, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.laprop(0.1)
    >>> state = tx.init(jnp.zeros(2))
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), state)[0], 4)  # the first steps have size 0.1
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-15
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        scaled = identity() / (root(bias_correction(second_moment(self.b2))) + self.eps)
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        return descent(self, scaled, m)

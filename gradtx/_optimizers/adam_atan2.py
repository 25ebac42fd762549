"""Adam-atan2, whose update does not depend on the scale of the gradient, so that it has no epsilon."""

import math
from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale, scale_by_learning_rate


class adam_atan2(Recipe):
    r"""Adam-atan2 takes the angle of momentum and root mean square in place of their quotient.

    $$ u = -\eta\, (a \operatorname{arctan2}(\hat m, \sqrt{\hat v}) + \lambda\, \theta) $$

    The angle is near the quotient where that is small, and it is bounded where the quotient is large. So
    no $\epsilon$ is needed, and gradients of every scale give the same steps.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $v$ of their squares, in [0, 1).
        a: the factor $a$ of the angle. With $4 / \pi$ a constant gradient gives a step of size $\eta$.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.

    The state holds those of `bias_correction` for $m$ and $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Everett et al., 2024, arXiv:2407.05872, appendix H.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adam_atan2(0.1)
    >>> u, _ = tx.update(jnp.array([1e-12, -7.0]), tx.init(jnp.zeros(2)))
    >>> jnp.round(u, 4)
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    a: Hyper = 4 / math.pi
    weight_decay: Hyper = 0.0
    mask: Any = None
    mu_dtype: DTypeLike | None = None

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2))
        return chain(
            fanout("arctan2", m, root(v)),
            scale(self.a),
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            scale_by_learning_rate(self.learning_rate),
        )

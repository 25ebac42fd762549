"""SignSGD, which follows the signs of the gradients."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.scale import scale_by_learning_rate, scale_by_sign


class sign_sgd(Recipe):
    r"""SignSGD moves every parameter by the learning rate, against the sign of its gradient.

    $$ u = -\eta \operatorname{sign}(g) $$

    Args:
        learning_rate: the learning rate $\eta$, a number, a schedule, or an array under `vmap`. A
            negative rate ascends.

    The state holds `LearningRateState(step, last_learning_rate)`.

    Raises:
        TypeError: if `learning_rate` is not a number, an array or a schedule.

    Source: Bernstein et al., 2018, arXiv:1802.04434, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.sign_sgd(0.1)
    >>> tx.update(jnp.array([1e-3, -7.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper

    def expand(self) -> Transform:
        return chain(scale_by_sign(), scale_by_learning_rate(self.learning_rate))

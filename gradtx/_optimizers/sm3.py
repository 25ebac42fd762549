"""SM3, which is AdaGrad with one number per row and column of a matrix."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.axis_sums import scale_by_sm3
from gradtx._transforms.scale import scale_by_learning_rate


class sm3(Recipe):
    r"""SM3 divides by the root of a bound of AdaGrad's sum of squares, and averages the result.

    $$ u = -\eta\, m, \qquad m = b\, m + (1 - b)\, g / \sqrt{s + \epsilon} $$

    where $s$ is `axis_sums_of_squares`, a bound of the sum of all squares of an entry, which needs one
    number per row and column of a matrix.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        momentum: the decay $b$ of the average, in [0, 1).
        b2: the decay of $s$, in [0, 1). None means that $s$ is a sum.
        eps: $\epsilon \ge 0$. The paper has none.

    The state holds $m$, and one number for every index of every axis.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Anil et al., 2019, arXiv:1901.11150, algorithm SM3-II, with momentum as in section 5.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.sm3(0.1, momentum=0.0, eps=0.0)
    >>> tx.update(jnp.array([1e-3, -7.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    momentum: Hyper = 0.9
    b2: Hyper | None = None
    eps: Hyper = 1e-8
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        return chain(
            scale_by_sm3(self.momentum, self.b2, self.eps),
            scale_by_learning_rate(self.learning_rate),
        )

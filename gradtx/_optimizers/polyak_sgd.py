"""SGD with Polyak's step size, which follows from the loss."""

from typing import Literal

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.polyak import scale_by_polyak
from gradtx._transforms.scale import scale_by_learning_rate


class polyak_sgd(Recipe):
    r"""SGD with Polyak's step size needs the loss, and no learning rate.

    $$ u = -\alpha \min\left(\frac{f - f_{\min}}{\|g\|^2 + \epsilon}, \eta_{\max}\right) g $$

    The loss $f$ is passed to `update` as `value`.

    Args:
        max_learning_rate: $\eta_{\max} > 0$, the largest step size. This and every other number may be
            a schedule, or an array under `vmap`.
        scaling: $\alpha$, a factor of all steps. Optax scales the gradient before it takes the norm, so
            that its steps are larger for a smaller factor.
        f_min: $f_{\min}$, the smallest value that the loss can have, or a lower bound of it.
        eps: $\epsilon \ge 0$.
        variant: "sps", or "sps+", which takes 0 for $f - f_{\min}$ where it is negative.

    The state holds `LearningRateState(step, last_learning_rate)`, whose rate is $\alpha$.

    Raises:
        ValueError: if a number lies outside its interval, if `variant` is an unknown word, or if the
            loss is not passed to `update`.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Sources: Polyak, 1987, "Introduction to optimization", section 5.3; Loizou et al., 2020,
    arXiv:2002.10542.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.polyak_sgd(), jnp.array([3.0, 4.0])
    >>> tx.update(w, tx.init(w), value=12.5)[0]  # half of the way to the minimum of |w|^2 / 2
    Array([-1.5, -2. ], dtype=float32)
    """

    max_learning_rate: Hyper = 1.0
    scaling: Hyper = 1.0
    f_min: Hyper = 0.0
    eps: Hyper = 0.0
    variant: Literal["sps", "sps+"] = "sps"

    def expand(self) -> Transform:
        step = scale_by_polyak(self.f_min, self.max_learning_rate, self.eps, self.variant)
        return chain(step, scale_by_learning_rate(self.scaling))

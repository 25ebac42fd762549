"""SGD with normal noise in the gradients."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.noise import add_noise
from gradtx._transforms.scale import scale_by_learning_rate


class noisy_sgd(Recipe):
    r"""Noisy SGD steps against the gradient with normal noise, whose variance falls over the steps.

    $$ u_t = -\alpha\, (g_t + \sqrt{\eta / t^\gamma}\, \xi_t), \qquad \xi_t \sim N(0, 1) $$

    Args:
        learning_rate: the learning rate $\alpha$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        eta: $\eta \ge 0$, the variance of the noise in the first step.
        gamma: $\gamma \ge 0$, how fast the variance falls.
        key: the seed of the random numbers, an integer, see `add_noise`.

    The state holds `optax.AddNoiseState(count, rng_key)` and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if `key` is not an
            integer.

    Source: Neelakantan et al., 2015, arXiv:1511.06807, eq. 1.

    >>> import gradtx
    >>> gradtx.noisy_sgd(0.1, key=7)
    noisy_sgd(0.1, key=7)
    """

    learning_rate: Hyper
    eta: Hyper = 0.01
    gamma: Hyper = 0.55
    key: int = 0
    instead = {"seed": "write `key=`, which takes the same integer"}

    def expand(self) -> Transform:
        noise = add_noise(self.eta, self.gamma, self.key)
        return chain(noise, scale_by_learning_rate(self.learning_rate))

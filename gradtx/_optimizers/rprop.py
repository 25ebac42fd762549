"""Rprop, which follows the signs of gradients with a step size for every entry."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._transforms.rprop import scale_by_rprop
from gradtx._transforms.scale import scale


class rprop(Recipe):
    r"""Rprop steps against the sign of the gradient, with a step size for every entry.

    $$ u_t = -s_t \operatorname{sign}(g_t), \qquad
       s_t = \min(\max(\eta_\pm\, s_{t-1}, s_{\min}), s_{\max}) $$

    The factor is $\eta_+$ where the sign is that of the previous step, and $\eta_-$ where it is
    opposite; there the entry does not move in this step.

    Args:
        learning_rate: the first step size, which must be constant. Every other number may be a schedule,
            or an array under `vmap`.
        eta_minus: $\eta_-$, in [0, 1].
        eta_plus: $\eta_+ \ge 0$, which should be more than 1.
        min_step_size: $s_{\min} \ge 0$.
        max_step_size: $s_{\max} \ge 0$.

    The state holds `optax.ScaleByRpropState(step_sizes, prev_updates)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if `learning_rate` is
            a schedule.

    Sources: Riedmiller & Braun, 1993, "A direct adaptive method for faster backpropagation learning";
    Igel & Hüsken, 2000, "Improving the Rprop learning algorithm".

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.rprop(0.5)
    >>> tx.update(jnp.array([1e-3, -7.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.5,  0.5], dtype=float32)
    """

    learning_rate: Fixed
    eta_minus: Hyper = 0.5
    eta_plus: Hyper = 1.2
    min_step_size: Hyper = 1e-6
    max_step_size: Hyper = 50.0

    def expand(self) -> Transform:
        step = scale_by_rprop(
            self.learning_rate,
            self.eta_minus,
            self.eta_plus,
            self.min_step_size,
            self.max_step_size,
        )
        return chain(step, scale(-1.0))

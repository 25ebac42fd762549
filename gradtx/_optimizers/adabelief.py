"""AdaBelief, which takes large steps where gradients agree with their average."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.belief import scale_by_belief
from gradtx._transforms.scale import scale_by_learning_rate


class adabelief(Recipe):
    r"""AdaBelief is Adam with the squares $|g - m|^2$ in the place of $|g|^2$ in the second moment.

    $$ u = -\eta\, \hat m / (\sqrt{\hat s} + \epsilon), \qquad
       s_t = b_2\, s_{t-1} + (1 - b_2)\, |g_t - m_t|^2 + \bar\epsilon $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $s$ of the squared distances, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added to $s$ in every step.

    The state holds `optax.ScaleByBeliefState(count, mu, nu)`, where `mu` is $m$ and `nu` is $s$ (see
    `scale_by_belief`), and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Zhuang et al., 2020, arXiv:2010.07468, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adabelief(0.1, b1=0.5)
    >>> u, _ = tx.update(jnp.array([2.0, -8.0]), tx.init(jnp.zeros(2)))
    >>> jnp.round(u, 4)  # the first gradient is twice its distance from m
    Array([-0.2,  0.2], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-16
    eps_root: Hyper = 1e-16
    instead = {"nesterov": "write `optax.adabelief`, which works in gradtx"}

    def expand(self) -> Transform:
        step = scale_by_belief(self.b1, self.b2, self.eps, self.eps_root)
        return chain(step, scale_by_learning_rate(self.learning_rate))

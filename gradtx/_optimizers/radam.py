"""RAdam, which takes steps of momentum until the second moment of Adam is known."""

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._transforms.radam import scale_by_radam
from gradtx._transforms.scale import scale_by_learning_rate


class radam(Recipe):
    r"""RAdam is Adam with a warm-up that follows from the variance of its denominator.

    $$ u = -\eta\, \hat m \left( \frac{r_t}{\sqrt{\hat v} + \epsilon} + [r_t = 0] \right) $$

    The factor $r_t$ is that of `rectification`: 0 in the first steps, which are steps of momentum, and
    later a number that approaches 1.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1), which must be constant.
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: a number, 0 or more, which is added to $\hat v$ under the root. None adds nothing.
        threshold: the least length of the average for a step of Adam, see `rectification`.
        nesterov: whether NAdam's momentum (`scale_by_nadam_momentum`) takes the place of $\hat m$.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, where `mu` is $m$ and `nu` is $v$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Liu et al., 2019, arXiv:1908.03265, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.radam(0.1)
    >>> u, _ = tx.update(jnp.array([0.5, -7.0]), tx.init(jnp.zeros(2)))
    >>> jnp.round(u, 4)  # the first step is momentum
    Array([-0.05,  0.7 ], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Fixed = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    threshold: Fixed = 5.0
    nesterov: bool = False

    def expand(self) -> Transform:
        step = scale_by_radam(
            self.b1, self.b2, self.eps, self.eps_root, self.threshold, self.nesterov
        )
        return chain(step, scale_by_learning_rate(self.learning_rate))

"""NovoGrad, which has one second moment per leaf."""

from collections.abc import Hashable

from gradtx._compose.chain import chain
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.block_moment import scale_by_novograd
from gradtx._transforms.scale import scale_by_learning_rate


class novograd(Recipe):
    r"""NovoGrad is SGD with momentum that divides the gradient of each leaf by an average of its norm.

    $$ u_t = -\eta\, m_t, \qquad
       m_t = b_1 m_{t-1} + \frac{g_t}{\sqrt{v_t + \bar\epsilon} + \epsilon} + \lambda\, \theta $$

    with one number $v$ per leaf, as in `scale_by_novograd`. So its state is half as large as Adam's.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the heavy ball $m$, in [0, 1].
        b2: the decay of the average $v$ of $\|g\|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        weight_decay: the rate of decay $\lambda \ge 0$. The decay is added to $m$, not to the update.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    The state is that of `scale_by_novograd`, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Ginsburg et al., 2019, arXiv:1905.11286, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.novograd(0.1)
    >>> u, state = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> jnp.round(u / -0.1, 1)  # the first step has norm 0.1
    Array([0.6, 0.8], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.25
    eps: Hyper = 1e-6
    eps_root: Hyper | None = None
    weight_decay: Hyper = 0.0
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        step = scale_by_novograd(
            self.b1, self.b2, self.eps, self.eps_root, self.weight_decay, self.axis_name
        )
        return chain(step, scale_by_learning_rate(self.learning_rate))

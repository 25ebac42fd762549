"""ADOPT, which divides by the second moment of the steps before, and so converges with every decay."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import descent
from gradtx._transforms.adopt import scale_by_adopt


class adopt(Recipe):
    r"""ADOPT is the momentum of gradients, each divided by the second moment of the steps before.

    $$ u = -\eta\, (m_t + \lambda\, \theta) $$

    with the momentum $m$ of `scale_by_adopt`. The first step moves nothing, except for the decay.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the momentum, in [0, 1).
        b2: the decay of the average of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which replaces smaller roots of this average.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        nesterov: whether the momentum looks one step ahead.
        use_clipping: whether the entries of the quotient are clipped.
        clip_value_fn: the largest entry, a schedule or a number. None means the fourth root of the
            number of steps before this one.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state is that of `scale_by_adopt`, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Taniguchi et al., 2024, arXiv:2411.02853, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adopt(0.1)
    >>> u, state = tx.update(jnp.full((), 5.0), tx.init(jnp.zeros(())))
    >>> round(float(u), 4), round(float(tx.update(jnp.full((), 5.0), state)[0]), 4)
    (-0.0, -0.01)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.9999
    eps: Hyper = 1e-6
    mu_dtype: DTypeLike | None = None
    nesterov: bool = False
    use_clipping: bool = True
    clip_value_fn: Hyper | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        step = scale_by_adopt(
            self.b1,
            self.b2,
            self.eps,
            self.mu_dtype,
            self.nesterov,
            self.use_clipping,
            self.clip_value_fn,
        )
        return descent(self, step)

"""AdamC, which is AdamW with a weight decay that follows the learning rate."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.adam import adamw
from gradtx._schedules.lifted import lifted


class adamc(Recipe):
    r"""AdamC is AdamW, whose weight decay is multiplied by the learning rate once more.

    $$ u = -\eta_t\, \Big(\frac{\hat m}{\sqrt{\hat v} + \epsilon}
       + \lambda\, \frac{\eta_t}{\eta_{\max}}\, \theta\Big) $$

    The weights of a layer that a normalization follows settle at a norm where the decay balances the
    steps. With a constant $\lambda$ this norm depends on the learning rate, and the gradients grow while
    the rate falls. With this correction it does not.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        max_learning_rate: $\eta_{\max}$, the largest value of the learning rate.
        b1: the decay of the average $m$ of the gradients $g$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$ at the largest learning rate.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The paper corrects the decay of layers that a normalization follows. All other layers keep AdamW's
    decay: `partition` sends them to `adamw`.

    The state is that of `adamw`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Defazio, 2025, arXiv:2506.02285, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.adamc(0.25, 0.5, weight_decay=0.1), jnp.ones(())
    >>> float(tx.update(jnp.zeros(()), tx.init(w), w)[0])  # 0.25 * 0.1 * 0.25 / 0.5
    -0.0125
    """

    learning_rate: Hyper
    max_learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 1e-2
    mask: Any = None
    limits = {"max_learning_rate": "(0, inf)", "weight_decay": "[0, inf)"}

    def expand(self) -> Transform:
        share = lifted("/", self.learning_rate, self.max_learning_rate)
        return adamw(
            self.learning_rate,
            self.b1,
            self.b2,
            self.eps,
            mu_dtype=self.mu_dtype,
            weight_decay=lifted("*", self.weight_decay, share),
            mask=self.mask,
        )

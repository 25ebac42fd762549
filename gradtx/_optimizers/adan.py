"""Adan, which adds an average of the changes of the gradient to Adam's momentum."""

from typing import Any

from gradtx._compose.chain import chain
from gradtx._compose.partition import masked
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import descent
from gradtx._schedules.lifted import lifted
from gradtx._transforms.adan import scale_by_adan
from gradtx._transforms.scale import scale


class adan(Recipe):
    r"""Adan adds an average of the changes of the gradient to Adam's momentum.

    $$ u = -\eta\, \left(\frac{\hat m + b_2\, \hat d}{\sqrt{\hat n + \bar\epsilon} + \epsilon}
       + \lambda\, \theta\right) $$

    with the averages of `scale_by_adan`. The changes take the place of Nesterov's look-ahead.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: the decay of the average $m$ of the gradients, in [0, 1). It is $1 - \beta_1$ of the paper,
            and likewise for the others.
        b2: the decay of the average $d$ of the changes of the gradient, in [0, 1).
        b3: the decay of the average $n$ of the squares, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        proximal: whether the sum of parameter and update is divided by $1 + \eta \lambda$, as in the
            paper, and the decay is not added as in AdamW.

    Optax 0.2.8 has $1 - b_2$ in the two places where the paper has $b_2$.

    The state is that of `scale_by_adan`, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Xie et al., 2022, arXiv:2208.06677, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adan(0.1, eps_root=None)
    >>> state = tx.init(jnp.zeros(2))
    >>> jnp.round(tx.update(jnp.array([1e-3, -7.0]), state)[0], 4)  # the first steps have size 0.1
    Array([-0.1,  0.1], dtype=float32)
    """

    learning_rate: Hyper
    b1: Hyper = 0.98
    b2: Hyper = 0.92
    b3: Hyper = 0.99
    eps: Hyper = 1e-8
    eps_root: Hyper | None = 1e-8
    weight_decay: Hyper = 0.0
    mask: Any = None
    proximal: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        step = descent(self, scale_by_adan(self.b1, self.b2, self.b3, self.eps, self.eps_root))
        if not self.proximal:
            return step
        # (theta - eta u) / (1 + eta lambda) - theta = -eta (u + lambda theta) / (1 + eta lambda)
        decayed = lifted("+", 1, lifted("*", self.learning_rate, self.weight_decay))
        shrink = scale(lifted("/", 1, decayed))
        return chain(step, shrink if self.mask is None else masked(shrink, self.mask))

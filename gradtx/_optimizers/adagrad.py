"""AdaGrad, which divides by the root of the sum of all squared gradients."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._optimizers.convention import Conventional, with_decay
from gradtx._schedules.conventions import inverse_time
from gradtx._transforms.adaptive import scale_by_adagrad
from gradtx._transforms.scale import scale, scale_by_learning_rate


class adagrad(Conventional):
    r"""AdaGrad divides the gradient by the root of the sum of all squared gradients.

    $$ G_t = G_{t-1} + |g_t|^2, \qquad u_t = -\eta\, g_t / \sqrt{G_t + \epsilon} $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        initial_accumulator_value: $G_0 \ge 0$, which must be constant. It is 0 in the paper.
        eps: $\epsilon \ge 0$.
        eps_in_sqrt: whether $\epsilon$ is added under the root. The paper adds it to the root.
        lr_decay: $d \ge 0$ of torch's $\eta_t = \eta / (1 + d\, t)$, with $t = 0$ at the first step. It
            must be constant. None means 0.
        weight_decay: $\lambda \ge 0$ of an L2 penalty, which adds $\lambda\, \theta$ to the gradient.
            None means no penalty.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        decoupled: whether the decay is added to the update as $-\eta\, \lambda\, \theta$ and not to the
            gradient. The sum then does not contain it.
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras" or "paper".

    The state holds `optax.ScaleByRssState(sum_of_squares)` with $G$, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `convention` is unknown.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Duchi, Hazan & Singer, 2011.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adagrad(0.1, convention="paper")
    >>> u, state = tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 4.0), state)[0])  # -0.1 * 4 / root(9 + 16)
    (-0.1, -0.08)
    """

    learning_rate: Hyper
    initial_accumulator_value: Fixed = 0.1
    eps: Hyper = 1e-7
    eps_in_sqrt: bool = True
    lr_decay: Fixed | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    limits = {"eps": "[0, inf)"}
    conventions = {
        "torch": {
            "learning_rate": 1e-2,
            "initial_accumulator_value": 0.0,
            "eps": 1e-10,
            "eps_in_sqrt": False,
        },
        "keras": {"learning_rate": 1e-3, "decoupled": True},
        "paper": {"initial_accumulator_value": 0.0, "eps": 0.0, "eps_in_sqrt": False},
    }

    def expand(self) -> Transform:
        return with_decay(
            self,
            scale_by_adagrad(self.initial_accumulator_value, self.eps, self.eps_in_sqrt),
            *([] if self.lr_decay is None else [scale(inverse_time(self.lr_decay))]),
            scale_by_learning_rate(self.learning_rate),
        )

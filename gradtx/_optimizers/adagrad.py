"""AdaGrad."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, with_decay
from gradtx._schedules.conventions import inverse_time
from gradtx._transforms.adaptive import scale_by_adagrad
from gradtx._transforms.scale import scale, scale_by_learning_rate


class adagrad(Conventional):
    r"""AdaGrad, $u = -\eta\, g / \sqrt{G + \epsilon}$ with the sum $G$ of all squared gradients.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        initial_accumulator_value: $G_0 \ge 0$, constant; in the paper 0.
        eps: $\epsilon \ge 0$.
        eps_in_sqrt: whether epsilon stands under the root; in the paper beside it.
        lr_decay: $d$, constant, of torch's $\eta_t = \eta / (1 + d\, t)$, from $t = 0$.
        weight_decay, mask: an L2 penalty, and the leaves that it is for (`decoupled_weight_decay`).
        decoupled: the penalty stays out of the sum, times the learning rate.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval. Source: Duchi, Hazan & Singer, 2011.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.adagrad(0.1, convention="paper")
    >>> u, state = tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 4.0), state)[0])  # -0.1 * 4 / root(9 + 16)
    (-0.1, -0.08)
    """

    learning_rate: Hyper
    initial_accumulator_value: Hyper = 0.1
    eps: Hyper = 1e-7
    eps_in_sqrt: bool = True
    lr_decay: Hyper | None = None
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

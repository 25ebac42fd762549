"""RMSProp."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, rate_and_heavy_ball, with_decay
from gradtx._transforms.adaptive import scale_by_rms, scale_by_stddev


class rmsprop(Conventional):
    r"""RMSProp, $u = -\eta\, g / \sqrt{v + \epsilon}$ with the average $v$ of squared gradients.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        decay: of the average, in [0, 1).
        eps: $\epsilon \ge 0$; the lecture has none.
        eps_in_sqrt: whether epsilon stands under the root or beside it.
        initial_scale: $v_0 \ge 0$, constant.
        centered: $v$ is the variance of the gradients.
        momentum, nesterov: a heavy ball after it, in [0, 1], and whether that looks ahead.
        bias_correction: whether $v$ is corrected for its start.
        weight_decay, mask: an L2 penalty, and the leaves that it is for (`decoupled_weight_decay`).
        decoupled: the penalty stays out of the averages, times the learning rate.
        lr_inside: whether the momentum is of steps already times the rate (not in torch).
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval, or for a corrected variance. Sources: Hinton,
    2012, lecture 6e; Graves, 2013, arXiv:1308.0850, eq. 38-41.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.rmsprop(0.1, decay=0.75)
    >>> float(tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0])  # -0.1 / root(0.25)
    -0.2
    """

    learning_rate: Hyper
    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Hyper = 0.0
    eps_in_sqrt: bool = True
    centered: bool = False
    momentum: Hyper | None = None
    nesterov: bool = False
    bias_correction: bool = False
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    lr_inside: bool = True
    limits = {"eps": "[0, inf)"}
    conventions = {
        "torch": {"learning_rate": 1e-2, "decay": 0.99, "eps_in_sqrt": False, "lr_inside": False},
        "keras": {"learning_rate": 1e-3, "eps": 1e-7, "decoupled": True},
        "paper": {"eps": 0.0},
    }

    def validate(self) -> None:
        if self.centered and self.bias_correction:
            raise ValueError(
                "`rmsprop(centered=True, bias_correction=True)`: the corrected variance of one gradient "
                "is 0, and the first step would be the gradient over root epsilon. Give up one of them."
            )
        super().validate()

    def expand(self) -> Transform:
        scaling = (self.decay, self.eps, self.initial_scale, self.eps_in_sqrt)
        by_rms = (
            scale_by_stddev(*scaling)
            if self.centered
            else scale_by_rms(*scaling, bias_correction=self.bias_correction)
        )
        return with_decay(self, by_rms, *rate_and_heavy_ball(self))

"""Stochastic gradient descent, with or without momentum."""

from typing import Any

from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._optimizers.convention import Conventional, rate_and_heavy_ball, with_decay
from gradtx._schedules.conventions import dampened
from gradtx._transforms.scale import scale


class sgd(Conventional):
    r"""Gradient descent, $u = -\eta\, g$, or with momentum $m = b\, m + g$, $u = -\eta\, m$.

    Args:
        learning_rate: $\eta \ge 0$. Numbers here may be schedules, and arrays under `vmap`,
            unless they are called constant.
        momentum: $b$ of a heavy ball, in [0, 1]; None keeps no state but counts.
        nesterov: $u = -\eta\, (g + b\, m)$, Nesterov's momentum in its shifted form.
        accumulator_dtype: of $m$; by default the parameter's, and float32 at least.
        dampening: $d$, constant, which multiplies all gradients but the first by $1 - d$, as in torch.
        weight_decay, mask: an L2 penalty, and the leaves that it is for (`decoupled_weight_decay`).
        decoupled: the penalty stays out of the momentum, times the learning rate.
        lr_inside: $u = b\, u - \eta\, g$ (Keras, the papers), the same at a constant rate.
        convention: whose defaults fill in what is not given: "optax", "torch", "keras" or "paper".

    Raises `ValueError` for a number outside its interval, or for a dampening without momentum or with
    Nesterov's. Sources: Robbins & Monro, 1951; Polyak, 1964; Sutskever et al., 2013.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.sgd(0.1, momentum=0.5)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.ones(()), state)[0])
    (-0.1, -0.15)
    """

    learning_rate: Hyper
    momentum: Hyper | None = None
    nesterov: bool = False
    accumulator_dtype: str | None = None
    dampening: Hyper | None = None
    weight_decay: Hyper | None = None
    mask: Any = None
    decoupled: bool = False
    lr_inside: bool = False
    conventions = {
        "torch": {"learning_rate": 1e-3},
        "keras": {"learning_rate": 1e-2, "lr_inside": True, "decoupled": True},
        "paper": {"lr_inside": True},
    }

    def validate(self) -> None:
        if self.dampening is not None and (self.nesterov or self.momentum is None):
            raise ValueError("`sgd(dampening=...)` goes with a momentum, and not with `nesterov`.")
        super().validate()

    def expand(self) -> Transform:
        dampen = [] if self.dampening is None else [scale(dampened(self.dampening))]
        return with_decay(self, *dampen, *rate_and_heavy_ball(self, self.accumulator_dtype))

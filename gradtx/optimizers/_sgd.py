"""Stochastic gradient descent, with or without momentum."""

from typing import Any

from gradtx._convention import dampened
from gradtx._core import Transform
from gradtx._scale import scale
from gradtx._value import Hyper
from gradtx.optimizers._convention import Conventional, rate_and_heavy_ball, with_decay


class sgd(Conventional):
    r"""Gradient descent, $u = -\eta\, g$, or with momentum $m = b\, m + g$, $u = -\eta\, m$.

    With `lr_inside`, $u = b\, u - \eta\, g$, which is the same at a constant rate. `momentum=None` keeps
    no state. `dampening` multiplies all gradients but the first by $1 - d$, as in torch.
    Sources: Robbins & Monro, 1951; Polyak, 1964; Sutskever et al., 2013.
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

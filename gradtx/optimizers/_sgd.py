"""Stochastic gradient descent."""

from gradtx._compose import chain, identity
from gradtx._core import Recipe, Transform
from gradtx._moments import scale_by_momentum
from gradtx._scale import scale_by_learning_rate
from gradtx._value import Hyper


class sgd(Recipe):
    r"""Gradient descent, $u = -\eta\, g$, or with momentum $m = b\, m + g$, $u = -\eta\, m$.

    `momentum=None` keeps no state. Source: Robbins & Monro, 1951; Polyak, 1964.
    """

    learning_rate: Hyper
    momentum: Hyper | None = None
    nesterov: bool = False
    accumulator_dtype: str | None = None

    def expand(self) -> Transform:
        heavy_ball = scale_by_momentum(
            0.0 if self.momentum is None else self.momentum,
            form="heavy_ball",
            nesterov=self.nesterov,
            accumulator_dtype=self.accumulator_dtype,
        )
        return chain(
            identity() if self.momentum is None else heavy_ball,
            scale_by_learning_rate(self.learning_rate),
        )

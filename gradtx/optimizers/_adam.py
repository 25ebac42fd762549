"""The Adam family: bias-corrected momentum over bias-corrected root mean square."""

from typing import Any

from gradtx._bias_correction import bias_correction
from gradtx._compose import chain
from gradtx._core import Recipe, Transform
from gradtx._decay import decoupled_weight_decay
from gradtx._moments import root, scale_by_momentum, second_moment
from gradtx._scale import scale_by_learning_rate
from gradtx._value import Hyper


class adam(Recipe):
    r"""Adam, $u = -\eta\, \hat m / (\sqrt{\hat v} + \epsilon)$.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 1.
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    mu_dtype: str | None = None
    nu_dtype: str | None = None

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2, accumulator_dtype=self.nu_dtype))
        return chain(m / (root(v) + self.eps), scale_by_learning_rate(self.learning_rate))


class adamw(Recipe):
    r"""AdamW, $u = -\eta\, (\hat m / (\sqrt{\hat v} + \epsilon) + \lambda\, \theta)$.

    Source: Loshchilov & Hutter, 2017, arXiv:1711.05101, algorithm 2, with the decay times the rate.
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    weight_decay: Hyper = 1e-4
    mask: Any = None
    mu_dtype: str | None = None
    nu_dtype: str | None = None

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2, accumulator_dtype=self.nu_dtype))
        return chain(
            m / (root(v) + self.eps),
            decoupled_weight_decay(self.weight_decay, mask=self.mask),
            scale_by_learning_rate(self.learning_rate),
        )

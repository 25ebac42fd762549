"""Optax's names for what has another name here, or is put together."""

from typing import Any

import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.adaptive import scale_by_adagrad
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale

add_decayed_weights = decoupled_weight_decay
scale_by_rss = scale_by_adagrad
set_to_zero = freeze


class trace(Recipe):
    r"""The heavy ball, $u_t = m_t = b\, m_{t-1} + g_t$; with `nesterov`, $u_t = g_t + b\, m_t$.

    Args:
        decay: $b$, in [0, 1].
        nesterov, accumulator_dtype: as in `scale_by_momentum`.

    Raises `ValueError` for another decay. Source: Polyak, 1964.
    """

    decay: Hyper
    nesterov: bool = False
    accumulator_dtype: str | None = None

    def expand(self) -> Transform:
        return scale_by_momentum(self.decay, "heavy_ball", self.nesterov, self.accumulator_dtype)


class ema(Recipe):
    r"""The average of the gradients, $u_t = m_t / (1 - b^t)$ with $m_t = b\, m_{t-1} + (1 - b)\, g_t$.

    Args:
        decay: $b$, in [0, 1).
        debias: with False, $u_t = m_t$.
        accumulator_dtype: of $m$; by default the parameter's, and float32 at least.

    Raises `ValueError` for another decay. Source: Kingma & Ba, 2014, arXiv:1412.6980, section 3.
    """

    decay: Hyper
    debias: bool = True
    accumulator_dtype: str | None = None
    renames = {"mu": "ema"}

    def state(self) -> Any:
        return None if callable(self.decay) or not self.debias else optax.EmaState

    def expand(self) -> Transform:
        average = scale_by_momentum(self.decay, accumulator_dtype=self.accumulator_dtype)
        return bias_correction(average) if self.debias else average


class scale_by_schedule(Recipe):
    r"""Updates times a function of the step: $u_t = c(t)\, g_t$ from $t = 0$.

    Args:
        step_size_fn: $c$, as in `scale`.

    Raises `TypeError` for what is no number, array or schedule.
    """

    step_size_fn: Hyper

    def expand(self) -> Transform:
        return scale(self.step_size_fn)

"""Optax's names for transformations that have a different name in gradtx, or are compositions."""

from typing import Any

import optax
from jax.typing import DTypeLike

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
    r"""The heavy ball is a decaying sum of the gradients.

    $$ u_t = m_t = b\, m_{t-1} + g_t $$

    Args:
        decay: $b$, in [0, 1].
        nesterov: whether the update looks one step ahead, $u_t = g_t + b\, m_t$.
        accumulator_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.

    The state is `optax.TraceState(trace)`.

    Raises:
        ValueError: if `decay` lies outside its interval.

    Source: Polyak, 1964.
    """

    decay: Hyper
    nesterov: bool = False
    accumulator_dtype: DTypeLike | None = None

    def expand(self) -> Transform:
        return scale_by_momentum(self.decay, "heavy_ball", self.nesterov, self.accumulator_dtype)


class ema(Recipe):
    r"""The update is the bias-corrected running average of the gradients.

    $$ u_t = m_t / (1 - b^t), \qquad m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    Args:
        decay: $b$, in [0, 1).
        debias: whether the average is corrected. With False, $u_t = m_t$.
        accumulator_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.

    The state is `optax.EmaState(count, ema)`. Without the correction, or where `decay` is a schedule,
    the state is that of `expand()`.

    Raises:
        ValueError: if `decay` lies outside its interval.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, section 3.
    """

    decay: Hyper
    debias: bool = True
    accumulator_dtype: DTypeLike | None = None
    renames = {"mu": "ema"}

    def state(self) -> Any:
        return None if callable(self.decay) or not self.debias else optax.EmaState

    def expand(self) -> Transform:
        average = scale_by_momentum(self.decay, accumulator_dtype=self.accumulator_dtype)
        return bias_correction(average) if self.debias else average


class scale_by_schedule(Recipe):
    r"""The update is multiplied by a function of the step.

    $$ u_t = c(t)\, g_t $$

    Args:
        step_size_fn: $c$, a schedule, which is called with 0 at the first step. A number or an array is
            accepted too.

    Raises:
        TypeError: if `step_size_fn` is not a number, an array or a schedule.
    """

    step_size_fn: Hyper

    def expand(self) -> Transform:
        return scale(self.step_size_fn)

"""Optax's spellings of what has another name, or is put together, here."""

from gradtx._adaptive import scale_by_adagrad
from gradtx._bias_correction import bias_correction
from gradtx._core import Recipe, Transform
from gradtx._decay import decoupled_weight_decay
from gradtx._moments import scale_by_momentum
from gradtx._route import freeze
from gradtx._scale import scale
from gradtx._value import Hyper

add_decayed_weights = decoupled_weight_decay
scale_by_rss = scale_by_adagrad
set_to_zero = freeze


class trace(Recipe):
    r"""The heavy ball, $u_t = m_t = b\, m_{t-1} + g_t$; with `nesterov`, $u_t = g_t + b\, m_t$."""

    decay: Hyper
    nesterov: bool = False
    accumulator_dtype: str | None = None

    def expand(self) -> Transform:
        return scale_by_momentum(self.decay, "heavy_ball", self.nesterov, self.accumulator_dtype)


class ema(Recipe):
    r"""The moving average of the gradients, corrected unless `debias=False`."""

    decay: Hyper
    debias: bool = True
    accumulator_dtype: str | None = None

    def expand(self) -> Transform:
        average = scale_by_momentum(self.decay, accumulator_dtype=self.accumulator_dtype)
        return bias_correction(average) if self.debias else average


class scale_by_schedule(Recipe):
    r"""Updates times a function of the step: $u_t = c(t)\, g_t$ from $t = 0$."""

    step_size_fn: Hyper

    def expand(self) -> Transform:
        return scale(self.step_size_fn)

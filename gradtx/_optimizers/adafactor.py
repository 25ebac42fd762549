"""Adafactor, whose second moment needs one number per row and column of a matrix."""

from dataclasses import KW_ONLY, InitVar
from typing import Any, Literal

from jax.typing import DTypeLike

from gradtx._compose.chain import chain
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._optimizers.convention import Conventional
from gradtx._schedules.inverse_sqrt import warmup_inverse_sqrt_schedule
from gradtx._transforms.block_norms import clip_by_block_rms
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.factored import scale_by_factored_rms
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.param_scale import scale_by_param_block_rms
from gradtx._transforms.scale import scale, scale_by_learning_rate

_Conventions = Literal["optax", "torch", "keras", "paper", "transformers", "big_vision"]
# What all but Optax and its descendants have in common.
_LAST = {"min_dim_size_to_factor": 1, "factored_axes": "last", "relative_step": True}


class adafactor(Conventional):
    r"""Adafactor divides by the root of a factored second moment, and scales by that of the weights.

    $$ u = -\eta\, \max(\operatorname{rms}(\theta), \epsilon_2)\, \hat u, \qquad
       \hat u = \frac{g / \sqrt v}{\max(1, \operatorname{rms}(g / \sqrt v) / d)} $$

    where $v$ is `factored_second_moment` with the decay $1 - t^{-c}$ in step $t$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. None means 1. This and every
            other number may be a schedule, or an array under `vmap`, unless its entry says that it must
            be constant.
        min_dim_size_to_factor: matrices with a shorter side keep their full second moment.
        decay_rate: the exponent $c > 0$, which must be constant.
        decay_offset: the number of steps by which $t$ starts later, which must be constant.
        multiply_by_parameter_scale: whether the update is multiplied by the root mean square of the
            parameters.
        clipping_threshold: $d \ge 0$, the largest root mean square of $\hat u$. None means no bound.
        momentum: the decay of an average of the updates, in [0, 1). None means no average.
        dtype_momentum: the dtype of this average. None means the dtype of the parameter, and float32 at
            least.
        weight_decay_rate: the rate of decay $\lambda \ge 0$. None means no decay.
        eps: a number, 0 or more, which is added to every square. It is $\epsilon_1$ in the paper.
        factored: whether second moments are factored.
        weight_decay_mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a
            function from the parameters to such a tree. None means all leaves.
        factored_axes: which two axes are a matrix: "largest", the two longest ones, or "last".
        floor: a bound for small second moments, as in torch (`factored_second_moment`).
        decay_cap: an upper bound of the decay of the second moment. None means no bound.
        min_scale: $\epsilon_2 \ge 0$.
        relative_step: whether the learning rate is at most $1 / \sqrt t$.
        lr_inside: whether the learning rate is applied before the momentum.
        decay_mode: which factors multiply the decay: "absolute", none of them (Optax); "lr", the
            learning rate (torch, Keras); "step", the learning rate and the scale of the parameters
            (Hugging Face).
        convention: the library or paper whose defaults fill in the arguments that are not given:
            "optax", "torch", "keras", "paper", "transformers" (Hugging Face) or "big_vision".

    The option `warmup_init` of Hugging Face is a learning rate that rises by 1e-6 per step, which is
    `learning_rate=linear_schedule(1e-6, 1.0, 999_999)` here, with `relative_step=True`.

    The state holds `optax.FactoredState(count, v_row, v_col, v)`,
    `LearningRateState(step, last_learning_rate)`, and `MomentumState(mu)` if there is a momentum.

    Raises:
        ValueError: if a number lies outside its interval, if a word is unknown, or if `update` is called
            without the parameters while they are needed.
        TypeError: if a hyperparameter is not a number, an array or a schedule, if it is a schedule
            where it must be constant, or if a dtype is neither floating nor complex.

    Sources: Shazeer & Stern, 2018, arXiv:1804.04235, algorithms 4 and 5; Zhai et al., 2021,
    arXiv:2106.04560, section 3.5 ("big_vision").

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.adafactor(0.1), jnp.full(2, 3.0)
    >>> tx.update(jnp.array([1e-3, -7.0]), tx.init(w), w)[0]  # a tenth of the parameters
    Array([-0.3,  0.3], dtype=float32)
    """

    learning_rate: Hyper | None = None
    min_dim_size_to_factor: int = 128
    decay_rate: Fixed = 0.8
    decay_offset: Fixed = 0.0
    multiply_by_parameter_scale: bool = True
    clipping_threshold: Hyper | None = 1.0
    momentum: Hyper | None = None
    dtype_momentum: DTypeLike | None = None
    weight_decay_rate: Hyper | None = None
    eps: Hyper = 1e-30
    factored: bool = True
    weight_decay_mask: Any = None
    factored_axes: Literal["largest", "last"] = "largest"
    floor: Hyper = 0.0
    decay_cap: Hyper | None = None
    min_scale: Hyper = 1e-3
    relative_step: bool = False
    lr_inside: bool = True
    decay_mode: Literal["absolute", "lr", "step"] = "absolute"
    _: KW_ONLY
    convention: InitVar[_Conventions] = "optax"  # pyright: ignore[reportIncompatibleVariableOverride]
    conventions = {
        "torch": {
            **_LAST,
            "learning_rate": 1e-2,
            "eps": 0.0,
            "floor": 2.0**-23,
            "decay_mode": "lr",
        },
        "keras": {**_LAST, "learning_rate": 1e-3, "decay_mode": "lr"},
        "paper": {**_LAST, "learning_rate": 1e-2},
        "transformers": {**_LAST, "learning_rate": 1e-2, "decay_mode": "step"},
        "big_vision": {
            "min_dim_size_to_factor": 32,
            "decay_cap": 0.999,
            "clipping_threshold": None,
            "multiply_by_parameter_scale": False,
            "momentum": 0.9,
            "dtype_momentum": "bfloat16",
            "lr_inside": False,
        },
    }

    def expand(self) -> Transform:
        divided = scale_by_factored_rms(
            self.factored,
            self.decay_rate,
            self.decay_offset,
            self.min_dim_size_to_factor,
            self.eps,
            self.factored_axes,
            self.floor,
            self.decay_cap,
        )
        limit, b = self.clipping_threshold, self.momentum
        clipped = [] if limit is None else [clip_by_block_rms(limit)]
        average = [] if b is None else [scale_by_momentum(b, accumulator_dtype=self.dtype_momentum)]
        rate = _rate(self)
        rates: list[Transform] = (
            [] if rate is None else [scale_by_learning_rate(rate, flip_sign=False)]
        )
        if self.multiply_by_parameter_scale:
            rates.append(scale_by_param_block_rms(self.min_scale))
        links = [*rates, *average] if self.lr_inside else [*average, *rates]
        return chain(*_with_decay(self, [divided, *clipped, *links]), scale(-1.0))


def _rate(recipe: adafactor) -> Any:
    """The learning rate, None for 1; with `relative_step` it is bounded."""
    if not recipe.relative_step:
        return recipe.learning_rate
    most = warmup_inverse_sqrt_schedule(1.0, 1.0, 0, timescale=1.0)
    return most if recipe.learning_rate is None else most.min(recipe.learning_rate)


def _with_decay(recipe: adafactor, links: list[Transform]) -> list[Transform]:
    """The links with the weight decay, in the order of Optax's links, so that its state fits."""
    if recipe.weight_decay_rate is None:
        return links
    decay = decoupled_weight_decay(recipe.weight_decay_rate, recipe.weight_decay_mask)
    if recipe.decay_mode == "absolute":
        return [*links, decay]
    rate = recipe.learning_rate if recipe.decay_mode == "lr" else _rate(recipe)
    factors: list[Transform] = [] if rate is None else [scale(rate)]
    if recipe.decay_mode == "step" and recipe.multiply_by_parameter_scale:
        factors.append(scale_by_param_block_rms(recipe.min_scale))
    return [chain(*links) + chain(freeze(), decay, *factors)]

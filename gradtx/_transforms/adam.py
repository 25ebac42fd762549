"""Adam and AMSGrad without a learning rate: a momentum divided by a root mean square."""

from typing import Any, NamedTuple

import optax
from jax.typing import DTypeLike

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import eps_hat
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.nadam import scale_by_nadam_momentum
from gradtx._transforms.roots import root, running_max


class ScheduledAdamState(NamedTuple):
    """The state of `scale_by_adam` where one of its two decays changes over the steps.

    `log_kept` is an array of shape (2,): the sum of the logarithms of that decay, and the rounding error
    of this sum.
    The other fields are those of `optax.ScaleByAdamState`.
    """

    count: Any
    log_kept: Any
    mu: Any
    nu: Any


class scale_by_adam(Recipe):
    r"""Adam divides the corrected momentum by the root of the corrected second moment.

    $$ u = \hat m / (\sqrt{\hat v + \bar\epsilon} + \epsilon), \qquad
       \hat m = m / (1 - b_1^t), \qquad \hat v = v / (1 - b_2^t) $$

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $v$, the average of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        nesterov: whether NAdam's momentum, `scale_by_nadam_momentum`, takes the place of $\hat m$.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        eps_hat: whether $\epsilon$ is added to the root of the uncorrected $v$, as in Keras. Then `eps`
            and `b2` must be constant.
        momentum_decay: how fast the momentum warms up where `nesterov` is True, see
            `scale_by_nadam_momentum`. None turns the warm-up off.

    The state is `optax.ScaleByAdamState(count, mu, nu)`. Where one of the two decays changes over the
    steps, the state has one more field, `log_kept`; where both change, the state is that of
    `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `eps` or `b2` is a schedule and `eps_hat` is True.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 1.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    nesterov: bool = False
    nu_dtype: DTypeLike | None = None
    eps_hat: bool = False
    momentum_decay: Hyper | None = None
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def state(self) -> Any:
        warms = self.nesterov and self.momentum_decay is not None
        changing = (callable(self.b1) or warms) + callable(self.b2)
        return (optax.ScaleByAdamState, ScheduledAdamState, None)[changing]

    def expand(self) -> Transform:
        if self.nesterov:
            m = scale_by_nadam_momentum(self.b1, self.momentum_decay, self.mu_dtype)
        else:
            m = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        v = bias_correction(second_moment(self.b2, accumulator_dtype=self.nu_dtype))
        return quotient(self, m, v)


class scale_by_amsgrad(Recipe):
    r"""AMSGrad is Adam with the largest second moment so far in place of the current one.

    $$ u = \hat m / (\sqrt{\max_{s \le t} \hat v_s + \bar\epsilon} + \epsilon) $$

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $v$, the average of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        bias_correction_mu: whether $m$ is bias-corrected. The paper does not correct it.
        bias_correction_nu: whether $v$ is bias-corrected. The paper does not correct it.
        nu_dtype: the dtype of $v$. None means the real dtype of the parameter, and float32 at least.
        eps_hat: whether $\epsilon$ is added to the root of the uncorrected $v$, as in Keras. Then `eps`
            and `b2` must be constant.
        max_of_raw: whether the maximum is taken of $v$ before the correction, as in torch, and not of
            $\hat v$.

    The state is `optax.ScaleByAmsgradState(count, mu, nu, nu_max)` where both averages are corrected and
    both decays are constant; otherwise the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `eps` or `b2` is a schedule and `eps_hat` is True.

    Source: Reddi, Kale & Kumar, 2018, arXiv:1904.09237, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    bias_correction_mu: bool = True
    bias_correction_nu: bool = True
    nu_dtype: DTypeLike | None = None
    eps_hat: bool = False
    max_of_raw: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}
    renames = {"maximum": "nu_max"}

    def state(self) -> Any:
        constant = not (callable(self.b1) or callable(self.b2))
        corrected = self.bias_correction_mu and self.bias_correction_nu
        return optax.ScaleByAmsgradState if constant and corrected else None

    def expand(self) -> Transform:
        m = scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype)
        m = bias_correction(m) if self.bias_correction_mu else m
        v = second_moment(self.b2, accumulator_dtype=self.nu_dtype)
        v = running_max(v) if self.max_of_raw else v
        v = bias_correction(v) if self.bias_correction_nu else v
        v = v if self.max_of_raw else running_max(v)
        return quotient(self, m, v)


def quotient(recipe: Any, m: Transform, v: Transform) -> Transform:
    r"""The quotient $m / (\sqrt{v + \bar\epsilon} + \epsilon)$, with the epsilons of `recipe`."""
    inside = v if recipe.eps_root is None else v + recipe.eps_root
    hat = getattr(recipe, "eps_hat", False)
    return m / (root(inside) + (eps_hat(recipe.eps, recipe.b2) if hat else recipe.eps))

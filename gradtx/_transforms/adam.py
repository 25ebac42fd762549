"""The gradient as Adam and its kin scale it: a corrected momentum over a corrected root mean square."""

from typing import Any, NamedTuple

import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import eps_hat
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.nadam import scale_by_nadam_momentum
from gradtx._transforms.roots import root, running_max


class ScheduledAdamState(NamedTuple):
    """Adam's state, and for a decay that changes the logarithm of the start's remaining weight, as the
    sum and what rounding took from it (shape (2,))."""

    count: Any
    log_kept: Any
    mu: Any
    nu: Any


class scale_by_adam(Recipe):
    r"""The gradient as Adam scales it: $u = \hat m / (\sqrt{\hat v + \bar\epsilon} + \epsilon)$.

    Args:
        b1: decay of the average $m$ of $g$, in [0, 1).
        b2: decay of the average $v$ of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$.
        eps_root: $\bar\epsilon \ge 0$, if any.
        mu_dtype: of $m$; by default the parameter's, and float32 at least.
        nesterov: NAdam's momentum, `scale_by_nadam_momentum`, in place of $\hat m$.
        nu_dtype: of $v$; by default the parameter's real one, and float32 at least.
        eps_hat: epsilon stands beside the uncorrected $\sqrt v$, as in Keras.
        momentum_decay: with `nesterov`, warms the momentum up, see `scale_by_nadam_momentum`.

    The state is `optax.ScaleByAdamState(count, mu, nu)`; where one decay changes over the steps it has
    one more field, and where both do it is the composition's. Raises `ValueError` for a number outside
    its interval. Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 1.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    nesterov: bool = False
    nu_dtype: str | None = None
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
    r"""The gradient as AMSGrad scales it: Adam with the largest second moment so far.

    $$ u = \hat m / (\sqrt{\max_{s \le t} \hat v_s + \bar\epsilon} + \epsilon) $$

    Args:
        b1: decay of the average $m$ of $g$, in [0, 1).
        b2: decay of the average $v$ of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$.
        eps_root: $\bar\epsilon \ge 0$, if any.
        mu_dtype: of $m$; by default the parameter's, and float32 at least.
        bias_correction_mu: whether $m$ is corrected for its start; not in the paper.
        bias_correction_nu: whether $v$ is corrected for its start; not in the paper.
        nu_dtype: of $v$; by default the parameter's real one, and float32 at least.
        eps_hat: epsilon stands beside the uncorrected $\sqrt v$, as in Keras.
        max_of_raw: the maximum is of $v$ and corrected after, as in torch.

    The state is `optax.ScaleByAmsgradState(count, mu, nu, nu_max)` where both averages are corrected and
    their decays are constant. Raises `ValueError` for a number outside its interval. Source: Reddi, Kale
    & Kumar, 2018, arXiv:1904.09237, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    bias_correction_mu: bool = True
    bias_correction_nu: bool = True
    nu_dtype: str | None = None
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
    r"""Adam's step, $m / (\sqrt{v + \bar\epsilon} + \epsilon)$, with the epsilons of a recipe."""
    inside = v if recipe.eps_root is None else v + recipe.eps_root
    return m / (root(inside) + (eps_hat(recipe.eps, recipe.b2) if recipe.eps_hat else recipe.eps))

"""Adaptive scaling: RMSProp and diagonal AdaGrad, which divide the gradient by a root.

The root is taken of a sum, an average or a variance of the gradients so far. AdaDelta also averages its
own updates, so it is not such a quotient and has its own file.
"""

from typing import Any, NamedTuple

import optax

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._transforms.accumulators import (
    CenteredMomentState,
    centered_second_moment,
    sum_of_squares,
)
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import second_moment
from gradtx._transforms.roots import root


class ScaleByRmsWithCountState(NamedTuple):
    """The state of `scale_by_rms` with bias correction.

    `count` is the number of steps taken, `nu` the average of the squared gradients.
    """

    count: Any
    nu: Any


class scale_by_rms(Recipe):
    r"""RMSProp divides the gradient by its running root mean square.

    $$ u = g / \sqrt{v + \epsilon} $$

    Args:
        decay: the decay of $v$, the average of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$.
        initial_scale: $v_0 \ge 0$, a number or an array.
        eps_in_sqrt: whether $\epsilon$ is added under the root. False means
            $u = g / (\sqrt v + \epsilon)$.
        bias_correction: whether $v$ is divided by $1 - b^t$, where $b$ is the decay.

    The state is `optax.ScaleByRmsState(nu)`, or `ScaleByRmsWithCountState(count, nu)` with bias
    correction. Where a hyperparameter is a schedule, the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial_scale` is a schedule.

    Source: Hinton, 2012, lecture 6e.
    """

    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Fixed = 0.0
    eps_in_sqrt: bool = True
    bias_correction: bool = False
    limits = {"eps": "[0, inf)"}

    def state(self) -> Any:
        if callable(self.decay) or callable(self.eps):
            return None
        return ScaleByRmsWithCountState if self.bias_correction else optax.ScaleByRmsState

    def expand(self) -> Transform:
        v = second_moment(self.decay, initial=self.initial_scale)
        v = bias_correction(v) if self.bias_correction else v
        return _over_root(v, self.eps, self.eps_in_sqrt)


class scale_by_stddev(Recipe):
    r"""Centered RMSProp divides the gradient by its running standard deviation.

    $$ u = g / \sqrt{s + \epsilon} $$

    Args:
        decay: the decay of the variance $s$, in [0, 1), see `centered_second_moment`.
        eps: $\epsilon \ge 0$.
        initial_scale: $s_0 \ge 0$, a number or an array.
        eps_in_sqrt: whether $\epsilon$ is added under the root. False means
            $u = g / (\sqrt s + \epsilon)$.

    A bias correction is not offered: the corrected variance of a single gradient is 0, so the first
    step would be $g / \sqrt\epsilon$. The state is `CenteredMomentState(mu, nu)`; where `decay` or
    `eps` is a schedule, the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial_scale` is a schedule.

    Source: Graves, 2013, arXiv:1308.0850, eq. 38-40.
    """

    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Fixed = 0.0
    eps_in_sqrt: bool = True
    limits = {"eps": "[0, inf)"}
    instead = {
        "bias_correction": "correct the averages of `optax.scale_by_stddev`, which works in gradtx"
    }

    def state(self) -> Any:
        return None if callable(self.decay) or callable(self.eps) else CenteredMomentState

    def expand(self) -> Transform:
        s = centered_second_moment(self.decay, initial=self.initial_scale)
        return _over_root(s, self.eps, self.eps_in_sqrt)


class scale_by_adagrad(Recipe):
    r"""Diagonal AdaGrad divides the gradient by the root of the sum of all squares so far.

    $$ u = g / \sqrt{G + \epsilon} $$

    Args:
        initial_accumulator_value: $G_0 \ge 0$, a number or an array. It is 0 in the paper.
        eps: $\epsilon \ge 0$.
        eps_in_sqrt: whether $\epsilon$ is added under the root. False means
            $u = g / (\sqrt G + \epsilon)$, as in the paper.

    The state is `optax.ScaleByRssState(sum_of_squares)`; where `eps` is a schedule, the state is that
    of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial_accumulator_value` is a schedule.

    Source: Duchi, Hazan & Singer, 2011.
    """

    initial_accumulator_value: Fixed = 0.1
    eps: Hyper = 1e-7
    eps_in_sqrt: bool = True
    limits = {"eps": "[0, inf)"}

    def state(self) -> Any:
        return None if callable(self.eps) else optax.ScaleByRssState

    def expand(self) -> Transform:
        return _over_root(
            sum_of_squares(self.initial_accumulator_value), self.eps, self.eps_in_sqrt
        )


def _over_root(squares: Transform, eps: Any, eps_in_sqrt: bool) -> Transform:
    return identity() / (root(squares + eps) if eps_in_sqrt else root(squares) + eps)

"""Adamax without a learning rate, and its infinity moment: a running maximum that decays."""

from typing import Any, NamedTuple

import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.adam import ScheduledAdamState
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.parameters import absolute
from gradtx._transforms.roots import running_max


class InfinityMomentState(NamedTuple):
    """The state of `infinity_moment`: `nu` is the decaying maximum of the sizes of the gradients."""

    nu: Any


class infinity_moment(Recipe):
    r"""The infinity moment is the largest size of the gradients so far, which decays at every step.

    $$ u_t = v_t = \max(b\, v_{t-1}, |g_t| + \epsilon), \qquad v_0 = 0 $$

    It is the limit, for large $p$, of the root $(\sum b^{p (t - s)} |g_s|^p)^{1/p}$. It needs no bias
    correction, since a constant gradient comes out unchanged from the first step on.

    Args:
        decay: $b$, in [0, 1].
        eps: $\epsilon \ge 0$.

    The state is `InfinityMomentState(nu)`, where `nu` is $v$, which is real. Where a hyperparameter is a
    schedule, the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, section 7.1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.infinity_moment(0.5)
    >>> _, state = tx.update(jnp.full((), -8.0), tx.init(jnp.zeros(())))
    >>> float(tx.update(jnp.full((), 3.0), state)[0])  # the larger one of 0.5 * 8 and 3
    4.0
    """

    decay: Hyper = 0.999
    eps: Hyper = 0.0
    limits = {"decay": "[0, 1]", "eps": "[0, inf)"}
    renames = {"maximum": "nu"}

    def state(self) -> Any:
        return None if callable(self.decay) or callable(self.eps) else InfinityMomentState

    def expand(self) -> Transform:
        return running_max(absolute() + self.eps, self.decay)


class scale_by_adamax(Recipe):
    r"""Adamax divides the corrected momentum by the infinity moment.

    $$ u = \hat m / v, \qquad \hat m = m / (1 - b_1^t), \qquad
       v_t = \max(b_2\, v_{t-1}, |g_t| + \epsilon) $$

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $v$, in [0, 1].
        eps: $\epsilon \ge 0$. The paper has none.

    The state is `optax.ScaleByAdamState(count, mu, nu)`. Where `b1` is a schedule, the state has one
    more field, `log_kept`.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Kingma & Ba, 2014, arXiv:1412.6980, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    renames = {"maximum": "nu"}

    def state(self) -> Any:
        return ScheduledAdamState if callable(self.b1) else optax.ScaleByAdamState

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1))
        return m / infinity_moment(self.b2, self.eps)

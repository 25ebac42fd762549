"""What Adam and its kin are made of, beside moments and roots: the quotient, and NAdam's momentum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator, scalar, scalar_dtype
from gradtx._core.elementwise import Elementwise, at_step, next_count
from gradtx._core.numerics import bounded, squarable
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import eps_hat
from gradtx._transforms.bias_correction import bias_correction, compensated_add
from gradtx._transforms.moments import average, log, root, scale_by_momentum, second_moment


class NadamMomentumState(NamedTuple):
    """Steps taken; the logarithm of $\\prod \\mu$, as the sum and what rounding took from it (shape
    (2,)); the average gradient."""

    count: Any
    log_kept: Any
    mu: Any


class scale_by_nadam_momentum(Elementwise):
    r"""NAdam's momentum: a corrected average that is one step ahead, and the gradient's own part.

    $$ u_t = \frac{\mu_{t+1}\, m_t}{1 - \prod_{s \le t+1} \mu_s}
           + \frac{(1 - \mu_t)\, g_t}{1 - \prod_{s \le t} \mu_s}, \qquad
       m_t = b\, m_{t-1} + (1 - b)\, g_t $$

    Args:
        decay: $b$, in [0, 1).
        momentum_decay: $\psi$ of Dozat's warming $\mu_t = b\, (1 - 0.96^{\psi t} / 2)$ (torch, Keras);
            None for $\mu_t = b$ (Optax).
        accumulator_dtype: of `mu`; by default the parameter's, and float32 at least.

    It is no Nesterov average divided by its gain, since both of its parts are corrected by themselves.
    Raises `ValueError` for a number outside its interval. Source: Dozat, 2016.
    """

    decay: Hyper = 0.9
    momentum_decay: Hyper | None = None
    accumulator_dtype: str | None = None
    limits = {"decay": "[0, 1)", "momentum_decay": "[0, inf)"}
    squares = True  # it bounds for itself, what stands beside squares

    def working(self) -> Transform:
        return self  # a schedule is asked for two steps at once

    def init_shared(self) -> NadamMomentumState:
        return NadamMomentumState(np.int32(0), np.zeros(2, scalar_dtype()), None)

    def init_leaf(self, param: Any) -> NadamMomentumState:
        return NadamMomentumState(None, None, accumulator(param, self.accumulator_dtype))

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        count = next_count(shared.count)
        rate, log_mu = self._at(shared.count)
        rate_next, log_next = self._at(count)
        log_kept = compensated_add(shared.log_kept, log_mu)
        acting = _nadam_step(
            at_step(self.decay, shared.count),
            (1 - rate_next) / -jnp.expm1(log_kept[0] + log_next),
            rate / -jnp.expm1(log_kept[0]),
        )
        return NadamMomentumState(count, log_kept, None), acting

    def _at(self, count: Any) -> tuple[Any, Any]:
        """$1 - \\mu$ and $\\log \\mu$ of the step after `count` steps."""
        decay = at_step(self.decay, count)
        if self.momentum_decay is None:
            return 1 - decay, log(decay)
        steps = scalar(at_step(self.momentum_decay, count)) * (scalar(count) + 1)
        rate = (1 - decay) + 0.5 * decay * jnp.exp(log(0.96) * steps)
        return rate, jnp.log1p(-rate)


class _nadam_step(Elementwise):
    """`scale_by_nadam_momentum` at one step: the factors of the average and of the gradient."""

    decay: Hyper
    ahead: Hyper
    now: Hyper

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        mu = average(state.mu, bounded(update), self.decay)
        return self.ahead * mu + self.now * squarable(update), state._replace(mu=mu)


class scale_by_adam(Recipe):
    r"""The gradient as Adam scales it: $u = \hat m / (\sqrt{\hat v + \bar\epsilon} + \epsilon)$.

    Args:
        b1, b2: decays of the averages $m$ of $g$ and $v$ of $|g|^2$, in [0, 1).
        eps, eps_root: $\epsilon \ge 0$ and $\bar\epsilon \ge 0$, if any.
        mu_dtype, nu_dtype: of $m$ and $v$; by default the parameter's, and float32 at least.
        nesterov: NAdam's momentum, `scale_by_nadam_momentum`, in place of $\hat m$.
        eps_hat: epsilon stands beside the uncorrected $\sqrt v$, as in Keras.

    Raises `ValueError` for a number outside its interval. Source: Kingma & Ba, 2014, arXiv:1412.6980,
    algorithm 1.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: str | None = None
    nesterov: bool = False
    nu_dtype: str | None = None
    eps_hat: bool = False
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        m, v = adam_momentum(self, self.nesterov), corrected_square(self)
        return m / (root(with_eps_root(self, v)) + epsilon(self))


def adam_momentum(recipe: Any, nesterov: bool = False, momentum_decay: Any = None) -> Transform:
    """The corrected average of the gradients, or with `nesterov` NAdam's."""
    if nesterov:
        return scale_by_nadam_momentum(recipe.b1, momentum_decay, recipe.mu_dtype)
    return bias_correction(scale_by_momentum(recipe.b1, accumulator_dtype=recipe.mu_dtype))


def corrected_square(recipe: Any) -> Transform:
    """The corrected average of the squared gradients."""
    return bias_correction(second_moment(recipe.b2, accumulator_dtype=recipe.nu_dtype))


def with_eps_root(recipe: Any, v: Transform) -> Transform:
    """$v + \\bar\\epsilon$, what stands under the root: `v` itself without `eps_root`."""
    return v if recipe.eps_root is None else v + recipe.eps_root


def epsilon(recipe: Any) -> Any:
    """The epsilon beside the root: a number, or with `eps_hat` what it comes to at each step."""
    return eps_hat(recipe.eps, recipe.b2) if recipe.eps_hat else recipe.eps

"""Adaptive scaling: the gradient over a root of what its squares have been.

RMSProp and diagonal AdaGrad are quotients of the gradient and a root; AdaDelta feeds its own updates
back, so it is written out.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, plus, square
from gradtx._core.numerics import abs_square, average
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise, refuse_schedule
from gradtx._core.values import Hyper
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import second_moment
from gradtx._transforms.roots import root


class sum_of_squares(Elementwise):
    r"""The running sum of squares: $u_t = G_t = G_{t-1} + |g_t|^2$.

    Args:
        initial: $G_0 \ge 0$, a number or an array.
        accumulator_dtype: of the sum; by default the parameter's real one, and float32 at least.

    Complex gradients count with their absolute value; the sum stays finite. Raises `ValueError` for a
    negative start. Source: Duchi, Hazan & Singer, 2011.
    """

    initial: Hyper = 0.0
    accumulator_dtype: str | None = None
    limits = {"initial": "[0, inf)"}
    degrees = {"sum_of_squares": 2}

    def validate(self) -> None:
        refuse_schedule(self, "initial")

    def init_leaf(self, param: Any) -> Any:
        dtype, initial = self.accumulator_dtype, self.initial
        return optax.ScaleByRssState(accumulator(param, dtype, real=True, fill=initial))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        # Each square is finite, but their sum may not be: it stays where it can still divide. The sum
        # comes last, since XLA would write its argument to memory if the bound did.
        total = state.sum_of_squares
        room = 0.5 * jnp.finfo(total.dtype).max - total
        total = total + jnp.minimum(abs_square(update), room)
        return total, optax.ScaleByRssState(total)

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.average("G", 1.0, square(g), weight=Tex("1"), initial=self.initial)


class CenteredMomentState(NamedTuple):
    """The average gradient `mu` and the average squared distance from it, `nu`, real."""

    mu: Any
    nu: Any


class centered_second_moment(Elementwise):
    r"""The running variance, $u_t = s_t = v_t - |m_t|^2$ of the averages of $|g|^2$ and $g$.

    $$ m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad
       s_t = b\, s_{t-1} + \frac{1 - b}{b}\, |g_t - m_t|^2 $$

    is the same number and cannot be negative, which the difference of two rounded averages can.

    Args:
        decay: $b$, in [0, 1).
        initial: $s_0 \ge 0$, a number or an array; $m_0 = 0$.

    Raises `ValueError` for a number outside its interval. Sources: Graves, 2013, arXiv:1308.0850,
    eq. 38-40; the recursion is Welford's (1962), for averages that forget Finch's (2009).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.centered_second_moment(0.5)
    >>> float(tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))[0])  # of 0 and 4, half each
    4.0
    """

    decay: Hyper = 0.9
    initial: Hyper = 0.0
    limits = {"decay": "[0, 1)", "initial": "[0, inf)"}
    degrees = {"mu": 1, "nu": 2}

    def validate(self) -> None:
        refuse_schedule(self, "initial")

    def init_leaf(self, param: Any) -> CenteredMomentState:
        return CenteredMomentState(
            mu=accumulator(param), nu=accumulator(param, real=True, fill=self.initial)
        )

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        mu = average(state.mu, update, self.decay)
        # From the new mean, so that XLA need not copy the old one; and half the distance, since that
        # between two numbers that can be squared may be one that cannot. At b = 0 it is 0.
        half = 0.5 * update - 0.5 * mu
        weight = 4 * (1 - self.decay) / jnp.maximum(jnp.asarray(self.decay), 1e-6)
        nu = self.decay * state.nu + weight * abs_square(half)
        return nu, CenteredMomentState(mu, nu)

    def tex(self, g: Tex, page: Page) -> Tex:
        v = page.average("v", self.decay, square(g), initial=self.initial)
        m = page.average("m", self.decay, g)
        return page.define("s", lambda _: plus(v, square(m), "-"))


class ScaleByRmsWithCountState(NamedTuple):
    """Steps taken, and the average of the squared gradients."""

    count: Any
    nu: Any


class scale_by_rms(Recipe):
    r"""The gradient over its root mean square: $u = g / \sqrt{v + \epsilon}$.

    Args:
        decay: of the average $v$ of $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$.
        initial_scale: $v_0 \ge 0$.
        eps_in_sqrt: with False, $u = g / (\sqrt v + \epsilon)$.
        bias_correction: whether $v$ is corrected for its start.

    Raises `ValueError` for a number outside its interval. Source: Hinton, 2012, lecture 6e.
    """

    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Hyper = 0.0
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
    r"""The gradient over its standard deviation: $u = g / \sqrt{s + \epsilon}$.

    Args:
        decay: of the variance $s$, in [0, 1); see `centered_second_moment`.
        eps: $\epsilon \ge 0$.
        initial_scale: $s_0 \ge 0$.
        eps_in_sqrt: with False, $u = g / (\sqrt s + \epsilon)$.

    There is no bias correction: of one gradient the deviation is 0, and the first step would be
    $g / \sqrt\epsilon$. Raises `ValueError` for a number outside its interval. Source: Graves, 2013,
    arXiv:1308.0850, eq. 38-40.
    """

    decay: Hyper = 0.9
    eps: Hyper = 1e-8
    initial_scale: Hyper = 0.0
    eps_in_sqrt: bool = True
    limits = {"eps": "[0, inf)"}

    def state(self) -> Any:
        return None if callable(self.decay) or callable(self.eps) else CenteredMomentState

    def expand(self) -> Transform:
        s = centered_second_moment(self.decay, initial=self.initial_scale)
        return _over_root(s, self.eps, self.eps_in_sqrt)


class scale_by_adagrad(Recipe):
    r"""The gradient over the root of all squares so far: $u = g / \sqrt{G + \epsilon}$.

    Args:
        initial_accumulator_value: $G_0 \ge 0$, in the paper 0.
        eps: $\epsilon \ge 0$.
        eps_in_sqrt: with False, as in the paper, $u = g / (\sqrt G + \epsilon)$.

    Raises `ValueError` for a number outside its interval. Source: Duchi, Hazan & Singer, 2011.
    """

    initial_accumulator_value: Hyper = 0.1
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

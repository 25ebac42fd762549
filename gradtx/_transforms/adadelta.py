"""AdaDelta without a learning rate. It averages its own updates as well as the gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, fraction, plus, sqrt, square, times
from gradtx._core.numerics import abs_square, average_of_squares, bounded, squarable
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class scale_by_adadelta(Elementwise):
    r"""AdaDelta scales the gradient by the ratio of two root mean squares, of updates and of gradients.

    $$ u_t = \frac{\sqrt{X_{t-1} + \epsilon}}{\sqrt{G_t + \epsilon}}\, g_t, \qquad
       G_t = \rho\, G_{t-1} + (1 - \rho)\, |g_t|^2, \qquad X_t = \rho\, X_{t-1} + (1 - \rho)\, |u_t|^2 $$

    Args:
        rho: the decay $\rho$ of both averages, in [0, 1).
        eps: $\epsilon > 0$. Every entry of the first update has about the size
            $\sqrt{\epsilon / (1 - \rho)}$, so $\epsilon$ acts like a learning rate.

    The state is `optax.ScaleByAdaDeltaState(e_g, e_x)`, where `e_g` is $G$ and `e_x` is $X$.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Zeiler, 2012, arXiv:1212.5701, algorithm 1.
    """

    rho: Hyper = 0.9
    eps: Hyper = 1e-6
    limits = {"rho": "[0, 1)", "eps": "(0, inf)"}
    degrees = {"e_g": 2, "e_x": 0}
    # The gradient is bounded in `update_leaf`: it has three uses there, and if the library bounded it
    # beforehand, XLA would write the bounded gradient to memory.
    linear = True
    keeps_zero = True

    def init_leaf(self, param: Any) -> Any:
        return optax.ScaleByAdaDeltaState(
            accumulator(param, real=True), accumulator(param, real=True)
        )

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        squares = abs_square(squarable(update))
        e_g = average_of_squares(state.e_g, squares, self.rho)
        # The square of the update is computed without the root. It is cheap to compute the ratio twice,
        # while XLA would write a root that both expressions share to memory.
        moved = (squares / (e_g + self.eps)) * (state.e_x + self.eps)
        update = (jnp.sqrt(state.e_x + self.eps) / jnp.sqrt(e_g + self.eps)) * bounded(update)
        return update, optax.ScaleByAdaDeltaState(
            e_g, average_of_squares(state.e_x, moved, self.rho)
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        def update(x: str) -> Tex:
            return times(
                fraction(sqrt(plus(Tex(f"{x}_{{t-1}}"), eps)), sqrt(plus(v, eps))),
                g,
            )

        def average(x: str) -> Tex:
            old = times(page.number(self.rho, r"\beta"), Tex(f"{x}_{{t-1}}"))
            return plus(old, times(page.complement(self.rho, r"\beta"), square(update(x))))

        eps = page.number(self.eps, r"\epsilon")
        v = page.average("v", self.rho, square(g))
        x = page.from_zero(page.define("x", average))
        return update(x.text.removesuffix("_t"))

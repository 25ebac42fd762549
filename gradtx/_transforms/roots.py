"""Wrappers around a moment: its square root, and the largest value that it has had, which may decay."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, sqrt as sqrt_tex, times
from gradtx._core.numerics import real_parts, sqrt
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._transforms.moments import second_moment


class root(Wrapper, Elementwise):
    r"""The update is the square root, or the cube root, of what the inner transformation gives.

    $$ u = \sqrt[n]{f(g)} $$

    The derivative at 0, which is infinite, is replaced by 0.

    Args:
        inner: $f$, a transformation whose updates are not negative, such as `second_moment`.
        order: $n$, 2 or 3.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `order` is neither 2 nor 3.
    """

    order: Literal[2, 3] = 2
    linear = as_inner
    keeps_zero = True

    @property
    def least(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        # It is never more than 0, so that a quotient by a bare root has a guard. Without the guard, XLA
        # would multiply by a reciprocal root, which rounds differently.
        return 0.0 if self.order == 2 else None

    def validate(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"`root(order={self.order!r})` must be 2 or 3.")

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: Any) -> Any:
        return (sqrt if self.order == 2 else _cube_root)(update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        inside = self.inner.tex(g, page)
        return sqrt_tex(inside) if self.order == 2 else Tex(rf"{inside.within(2)}^{{1/3}}", 1)


def _cube_root(x: jax.Array) -> jax.Array:
    zero = x == 0  # where the derivative is taken of another number, and is 0
    return jnp.where(zero, jnp.zeros_like(x), jnp.cbrt(jnp.where(zero, jnp.ones_like(x), x)))


class rms(Recipe):
    r"""The update is the running root mean square of the gradients.

    $$ u_t = \sqrt{v_t}, \qquad v_t = b\, v_{t-1} + (1 - b)\, |g_t|^2 $$

    Args:
        decay: $b$, in [0, 1).

    Raises:
        ValueError: if `decay` lies outside its interval.

    Source: Hinton, 2012, lecture 6e.

    >>> import gradtx
    >>> gradtx.identity() / (gradtx.rms(0.9) + 1e-8)  # RMSProp without its learning rate
    identity() / (rms() + 1e-08)
    """

    decay: Hyper = 0.9

    def expand(self) -> Transform:
        return root(second_moment(self.decay))


class RunningMaxState(NamedTuple):
    """The state of `running_max`: the largest value so far, and the state of `inner`."""

    maximum: Any
    inner: Any


class running_max(Wrapper, Elementwise):
    r"""Every entry of the update is the largest that the inner transformation has given so far.

    $$ u_t = \max(b\, u_{t-1}, f(g_t)), \qquad u_0 = 0 $$

    Optax's AMSGrad divides by the root of `running_max(bias_correction(second_moment(b)))`, torch's by
    the root of `bias_correction(running_max(second_moment(b)))`.

    Args:
        inner: $f$, a transformation whose updates are real, such as `second_moment`.
        decay: $b$, in [0, 1], by which the largest value falls in every step. With 1, it never falls.

    The state is `RunningMaxState(maximum, inner)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `decay` lies outside its interval.

    Sources: Reddi, Kale & Kumar, 2018, arXiv:1904.09237; Kingma & Ba, 2014, arXiv:1412.6980, section 7.1
    (with a decay).
    """

    decay: Hyper = 1.0
    limits = {"decay": "[0, 1]"}
    linear = as_inner
    keeps_zero = True

    degrees = {"maximum": 2}

    def init_leaf(self, param: Any, inner: Any) -> RunningMaxState:
        return RunningMaxState(accumulator(param, real=True), inner)

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: Any) -> Any:
        # In a sum with a number, the update of a complex gradient is complex, with the imaginary part 0.
        maximum = jnp.maximum(self.decay * state.maximum, real_parts(update)[0])
        return maximum, state._replace(maximum=maximum)

    def tex(self, g: Tex, page: Page) -> Tex:
        x = page.symbol(self.inner.tex(g, page))
        old = lambda m: times(page.number(self.decay, r"\beta"), Tex(f"{m}_{{t-1}}"))
        largest = lambda m: Tex(rf"\max\left({old(m).text}, {x.text}\right)")
        return page.from_zero(page.define(x.accented("bar"), largest))

"""What was one step earlier: a transformation that is delayed, and the difference of two gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, plus
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._schedules.conventions import from_first
from gradtx._schedules.transitions import constant_schedule
from gradtx._transforms.moments import second_moment
from gradtx._transforms.narrow import begins_if_narrow
from gradtx._transforms.scale import scale


class DelayedState(NamedTuple):
    """The state of `delayed`: what the inner transformation gave last, and its state."""

    previous: Any
    inner: Any


class delayed(Wrapper, Elementwise):
    r"""The update is what the inner transformation gave one step before.

    $$ u_t = f(g)_{t-1}, \qquad u_1 = 0 $$

    Args:
        inner: $f$, a transformation.

    The state is `DelayedState(previous, inner)`, where `previous` is $f(g)_t$. If `inner` is a
    `second_moment`, whose state is $f(g)_t$ already, the state is that of `inner`.

    Raises:
        TypeError: if `inner` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.delayed(gradtx.scale(2.0))
    >>> u, state = tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 5.0), state)[0])
    (0.0, 6.0)
    """

    linear = as_inner

    @property
    def degrees(self) -> dict[str, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {"previous": 1} if self.inner.linear else {}

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        inner: Any = self.inner
        if type(inner) is second_moment:
            fields = {name: getattr(inner, name) for name in inner._hints}
            return low.lower(_earlier_second_moment(**fields), stream)
        return Wrapper.lower(self, low, stream)

    def init_leaf(self, param: Any, inner: Any) -> DelayedState:
        return DelayedState(accumulator(param), inner)

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: Any) -> Any:
        # A gradient that is not finite shows at once, because `0 * update` is NaN then.
        # What `inner` gives for a complex parameter may be real, such as a mean square.
        new = state._replace(previous=update.astype(state.previous.dtype))
        return state.previous + 0 * update, new

    def tex(self, g: Tex, page: Page) -> Tex:
        u = page.symbol(self.inner.tex(g, page))
        return u.at("t-1")


class _earlier_second_moment(second_moment):
    """A `second_moment` whose update is the average before this step, which its state holds."""

    begins = begins_if_narrow

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, seed: Any = None
    ) -> tuple[jax.Array, Any]:
        nu, new = super().update_leaf(update, state, param, seed)
        return state.nu + 0 * nu, new


class DifferenceState(NamedTuple):
    """The state of `difference`: the number of steps, and the gradient of the last one."""

    count: Any
    previous: Any


class difference(Recipe):
    r"""The update is the gradient minus the gradient of the step before.

    $$ u_t = g_t - g_{t-1}, \qquad g_0 = g_1 $$

    Args:
        from_zero: whether $g_0 = 0$, so that the first difference is the gradient itself. Otherwise the
            first difference is 0.

    The state is `DifferenceState(count, previous)`, where `previous` is $g_t$.

    Source: Defazio, Bach & Lacoste-Julien, 2014, arXiv:1407.0202 (differences that reduce variance).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.difference()
    >>> u, state = tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 5.0), state)[0])
    (0.0, 2.0)
    """

    from_zero: bool = False
    state = DifferenceState

    def expand(self) -> Transform:
        # Both forms have a counter, so that their states are alike.
        rate = constant_schedule(1.0) if self.from_zero else from_first(1.0)
        return chain(fanout(subtracted, identity(), delayed(identity())), scale(rate))

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        before = g.at("t-1")
        first = "0" if self.from_zero else g.text
        page.notes[before.text] = rf"\text{{: its value one step earlier, and in step 1 }}{first}"
        return page.define("d", lambda _: plus(g, before, "-"))


def subtracted(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a - b`, which does not overflow if both are finite."""
    if jnp.iscomplexobj(a) or jnp.iscomplexobj(
        b
    ):  # such as a mean square and an array like the parameter
        return jax.lax.complex(subtracted(a.real, b.real), subtracted(a.imag, b.imag))
    limit = 0.5 * jnp.finfo(a.dtype).max
    half = jnp.clip(0.5 * a - 0.5 * b, -limit, limit)
    return 2 * half + (0 * a + 0 * b)

"""Cautious updates, which move only where update and gradient have the same sign."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.numerics import shard_axes
from gradtx._core.quotients import sign
from gradtx._core.unit import Elementwise


class cautious(Wrapper, Elementwise):
    r"""The update keeps only the entries whose sign agrees with the gradient, and enlarges these.

    $$ u = f(g) \odot \phi / \max(\operatorname{mean} \phi, 10^{-3}), \qquad
       \phi = [f(g) \odot g > 0] $$

    The mean is taken over one leaf. Complex entries agree where the real part of $\overline{f(g)}\, g$
    is positive. The updates of `inner` must have the sign of the gradients, so the learning rate, which
    flips the sign, belongs outside: `chain(cautious(m), scale_by_learning_rate(lr))`.

    Args:
        inner: the transformation $f$.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the mean over what it holds.

    The state is the state of `inner`.

    Raises:
        TypeError: if `inner` is not a transformation.

    Source: Liang et al., 2024, arXiv:2411.16085.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cautious(gradtx.scale_by_momentum(0.5, form="heavy_ball"))
    >>> _, state = tx.update(jnp.array([4.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, -1.0]), state)[0]  # the momentum is 3 and 1, the second disagrees
    Array([6., 0.], dtype=float32)
    """

    axis_name: Hashable | None = None
    linear = as_inner
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: jax.Array) -> Any:
        # The signs are multiplied, because the product of small numbers would underflow to 0.
        agrees = (sign(update) * sign(given).conj()).real > 0
        real = jnp.finfo(update.dtype).dtype
        share = jnp.mean(agrees, dtype=real) if update.size else jnp.ones((), real)
        if axes := shard_axes(update, self.axis_name):
            share = jax.lax.pmean(share, axes)  # all shards of a leaf have one size
        # A NaN agrees with no gradient, but it must not be hidden.
        kept = jnp.where(agrees | jnp.isnan(update), update, jnp.zeros((), update.dtype))
        return kept / jnp.maximum(share, 1e-3).astype(update.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        u = page.symbol(self.inner.tex(g, page))
        agrees = page.define(r"\phi", lambda _: page.where(rf"{u.text}\, {g.text} > 0"))
        share = page.function("mean", r"\text{: the mean over one array}", agrees)
        return fraction(times(u, agrees), Tex(rf"\max\left({share.text}, 10^{{-3}}\right)"))

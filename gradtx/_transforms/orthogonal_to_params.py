"""Gradients without their component along the parameters, which only changes the norm of these."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import THETA, Page, Tex, fraction, times
from gradtx._core.numerics import nonzero_or_one, norm_parts, shard_axes
from gradtx._core.unit import Elementwise


class orthogonal_to_params(Elementwise):
    r"""The component of the gradient along the parameters is removed, and its norm is restored.

    $$ u = \frac{\|g\|}{\|p\|}\, p, \qquad
       p = g - \frac{\langle \theta, g \rangle}{\|\theta\|^2}\, \theta $$

    Norms and inner products are those of one leaf. The steps turn the parameters and hardly lengthen
    them. A gradient that points along the parameters, up to rounding, becomes 0, so that an array with a
    single entry never moves: leave such arrays out with `masked`. Where the parameters are 0, the
    gradient passes unchanged.

    Args:
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device uses the part of a leaf that it holds.

    Raises:
        ValueError: if `update` is called without the parameters.

    Source: Prieto et al., 2025, arXiv:2501.04697, section 5.2 (OrthoGrad).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.orthogonal_to_params(), jnp.array([2.0, 0.0])
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(w), w)[0]
    Array([0., 5.], dtype=float32)
    """

    axis_name: Hashable | None = None
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        unit, ratio = norm_parts(update, self.axis_name)
        ratio = jnp.where(ratio == 0, jnp.ones_like(ratio), ratio)
        g, p = update / unit / ratio, _direction(param, self.axis_name)
        along = jnp.sum((p.conj() * g).real)
        if axes := shard_axes(update, self.axis_name):
            along = jax.lax.psum(along, axes)
        rest = g - along.astype(g.dtype) * p
        _, size = norm_parts(rest, self.axis_name)
        # What rounding leaves of a gradient along the parameters is noise.
        parallel = size <= 8 * jnp.finfo(size.dtype).eps
        rest = rest / jnp.where(parallel, jnp.ones_like(size), size) * ratio * unit
        return jnp.where(parallel, 0 * update, rest), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        words = r"\text{: the norm of one array}"
        size = lambda x: page.norm(x, r"_{\mathrm{leaf}}", words)
        product = page.function("inner", r"\text{: the inner product of two arrays}", THETA, g)
        share = fraction(product, Tex(f"{size(THETA).text}^2"))
        rest = page.define("p", lambda _: Tex(f"{g.text} - {times(share, THETA).text}", 0))
        return times(fraction(size(g), size(rest)), rest)


def _direction(x: jax.Array, axis_name: Any) -> jax.Array:
    """An array divided by its norm, or 0 if it is 0."""
    unit, ratio = norm_parts(x, axis_name)
    return x / unit / nonzero_or_one(ratio)

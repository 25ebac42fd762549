"""The size of one leaf: as an update, and as a bound on the update.

In Optax a leaf is called a block. `block_norm` replaces every entry by the size of its leaf, so that
quotients and products of transformations can use this size:

    normalized gradient    identity() / block_norm()
    update clipping        identity() / fanout("maximum", block_norm(rms=True), 1.0)
    adafactor's scale      identity() * fanout("maximum", chain(parameters(), block_norm(rms=True)), c)
"""

import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.recipe import Recipe
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.numerics import filled_like, norm_parts, shard_axes
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._transforms.clip import at_most_one, shrink

ONE_ARRAY = r"\text{: the norm of one array}"


def norm_of(x: jax.Array, axis_name: Any) -> jax.Array:
    """The norm of an array, which is the largest number of its dtype where it would overflow."""
    unit, ratio = norm_parts(x, axis_name)
    return product(unit, ratio)


def product(unit: jax.Array, ratio: jax.Array) -> jax.Array:
    """`unit * ratio`, which stays finite if both are finite."""
    # `0 * ratio` is NaN where the array is not finite, so that this is not hidden.
    return jnp.minimum(unit * ratio, jnp.finfo(unit.dtype).max) + 0 * ratio


def entries_of(x: jax.Array, axis_name: Any) -> int:
    """The number of entries of a leaf, of which `x` may be one shard."""
    axes = shard_axes(x, axis_name)
    return max(x.size, 1) * (jax.lax.axis_size(axes) if axes else 1)


def leaf_norm(x: Tex, page: Page) -> Tex:
    """The norm of one array, as an equation."""
    return page.norm(x, r"_{\mathrm{leaf}}", ONE_ARRAY)


class block_norm(Elementwise):
    r"""Every entry of the update is the norm of its leaf.

    $$ u = \|g\| $$

    Args:
        rms: whether the norm is divided by the root of the number of entries, which makes it the root
            mean square of the leaf.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    A leaf whose gradient is not finite becomes NaN.

    Sources: Nesterov, 1984 (the normalized gradient); Shazeer & Stern, 2018, arXiv:1804.04235, section 6
    (the root mean square).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.identity() / gradtx.block_norm()
    >>> tx.update(jnp.array([30.0, 40.0]), tx.init(jnp.zeros(2)))[0]
    Array([0.6, 0.8], dtype=float32)
    >>> gradtx.block_norm(rms=True).update(jnp.array([1.0, -7.0]), ())[0]
    Array([5., 5.], dtype=float32)
    """

    rms: bool = False
    axis_name: Hashable | None = None
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        unit, ratio = norm_parts(update, self.axis_name)
        if self.rms:
            ratio = ratio / math.sqrt(entries_of(update, self.axis_name))
        return filled_like(update, product(unit, ratio)), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        if not self.rms:
            return leaf_norm(g, page)
        return page.function("rms", r"\text{: the root mean square of one array}", g)


class clip_by_block_norm(Elementwise):
    r"""Every leaf is shrunk so that its norm is at most `max_norm`.

    $$ u = g \min(1, c / \|g\|) $$

    A leaf whose gradient is not finite becomes NaN.

    Args:
        max_norm: $c \ge 0$, a number, a schedule, or an array under `vmap`.
        rms: whether the root mean square of the leaf is bounded, in place of its norm.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    Raises:
        ValueError: if `max_norm` is negative.

    Source: Yuan et al., 2024, arXiv:2411.10438, algorithm 2 (MARS).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_block_norm(1.0)
    >>> tx.update({"a": jnp.array([30.0, 40.0]), "b": jnp.array([0.5])}, ())[0]
    {'a': Array([0.6, 0.8], dtype=float32), 'b': Array([0.5], dtype=float32)}
    """

    max_norm: Hyper
    rms: bool = False
    axis_name: Hashable | None = None
    limits = {"max_norm": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        unit, ratio = norm_parts(update, self.axis_name)
        limit = self.max_norm
        if self.rms:
            limit = limit * math.sqrt(entries_of(update, self.axis_name))
        factor, unit = shrink(unit, ratio, limit)
        return update / unit * factor, state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        size = block_norm(self.rms).tex(g, page)
        return times(at_most_one(fraction(page.number(self.max_norm), size)), g)


class clip_by_block_rms(Recipe):
    r"""Every leaf is shrunk so that its root mean square is at most `threshold`.

    $$ u = g / \max(1, \operatorname{rms}(g) / c) $$

    A leaf whose gradient is not finite becomes NaN.

    Args:
        threshold: $c \ge 0$, a number, a schedule, or an array under `vmap`.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the root mean square of what it holds.

    Raises:
        ValueError: if `threshold` is negative.

    Source: Shazeer & Stern, 2018, arXiv:1804.04235, section 6.
    """

    threshold: Hyper
    axis_name: Hashable | None = None
    limits = {"threshold": "[0, inf)"}

    def expand(self) -> Transform:
        return clip_by_block_norm(self.threshold, True, self.axis_name)

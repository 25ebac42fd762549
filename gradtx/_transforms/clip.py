"""Clipping: bounds on single entries, and on the norm of the tree or of a neuron."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import THETA, Page, Tex, fraction, times
from gradtx._core.numerics import norm_parts, real_parts, shard_axes, sqrt, unit_of
from gradtx._core.quotients import scaled_parts
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class clip(Elementwise):
    r"""Every entry of the update is limited to an interval around zero.

    $$ u = \min(\max(g, -\delta), \delta) $$

    A complex entry keeps its direction, and its absolute value is limited. A NaN stays a NaN.

    Args:
        max_delta: $\delta \ge 0$, a number, a schedule, or an array under `vmap`.

    Raises:
        ValueError: if `max_delta` is negative.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.clip(1.0).update(jnp.array([0.5, -3.0]), ())[0]
    Array([ 0.5, -1. ], dtype=float32)
    """

    max_delta: Hyper
    limits = {"max_delta": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if jnp.iscomplexobj(update):
            # The absolute value of a finite number may overflow, and is not computed.
            small, unit = scaled_parts(update)
            factor, divisor = shrink(unit, jnp.abs(small), self.max_delta)
            return jnp.where(divisor == unit, small, update) * factor, state
        limit = jnp.asarray(self.max_delta).astype(update.dtype)
        return jnp.clip(update, -limit, limit), state

    def tex(self, g: Tex, page: Page) -> Tex:
        limit = page.number(self.max_delta, r"\delta").text
        return Tex(rf"\min\left(\max\left({g.text}, -{limit}\right), {limit}\right)")


class clip_by_global_norm(Elementwise):
    r"""All updates are shrunk by one factor, so that the norm of the whole tree is at most `max_norm`.

    $$ u = g \min(1, c / \|g\|) $$

    The norm is computed in float32 at least and does not overflow. A gradient that is not finite makes
    all updates NaN, so that it is not hidden.

    Args:
        max_norm: $c \ge 0$, a number, a schedule, or an array under `vmap`.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    Raises:
        ValueError: if `max_norm` is negative.

    Source: Pascanu et al., 2012, arXiv:1211.5063.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_global_norm(1.0)
    >>> tx.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, ())[0]
    {'a': Array([0.6], dtype=float32), 'b': Array([0.8], dtype=float32)}
    """

    max_norm: Hyper
    axis_name: Hashable | None = None
    limits = {"max_norm": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        return norm_parts(updates, self.axis_name)

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        unit, ratio = measured
        factor, unit = shrink(unit, ratio, self.max_norm)
        # There are two factors, since their product could underflow to 0. Neither is a divisor, since
        # XLA would then write the quotients to memory, which takes 8 bytes more for each parameter.
        return state, (1 / unit, factor)

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, factors: Any
    ) -> tuple[jax.Array, Any]:
        inverse, factor = factors
        return update * inverse * factor, state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        norm = page.norm(g, "", r"\text{: the norm of all arrays together}")
        return times(at_most_one(fraction(page.number(self.max_norm), norm)), g)


class adaptive_grad_clip(Elementwise):
    r"""The gradient of every neuron is shrunk to at most a fraction of the norm of the neuron's weights.

    $$ u = g\, \min(1, c\, \max(\|\theta\|, \epsilon) / \|g\|) $$

    Both norms are taken over the entries of one neuron. A neuron whose gradient is not finite becomes
    NaN.

    Args:
        clipping: $c \ge 0$, a number, a schedule, or an array under `vmap`.
        eps: $\epsilon \ge 0$, which replaces smaller norms of the weights.
        axis: the axis, or the tuple of axes, over which one neuron extends. None means the choice of
            Optax: all axes of a leaf with at most one axis longer than 1; the first axis of a matrix
            or of a leaf with three axes; all axes but the last of a leaf with four axes or more.
        axis_names: inside `shard_map`, where leaves are shards, a mapping from an axis of the leaves to
            the mesh axis that shards it, such as `{0: "data"}`; -1 is the last axis. With None, every
            device takes the norms of what it holds.

    Raises:
        ValueError: if a number is negative, or if `update` is called without the parameters.

    Source: Brock et al., 2021, arXiv:2102.06171.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.adaptive_grad_clip(0.01), jnp.array([3.0, 4.0])
    >>> tx.update(jnp.array([6.0, 8.0]), tx.init(w), w)[0]  # the norm is now 0.01 * 5
    Array([0.03, 0.04], dtype=float32)
    """

    clipping: Hyper
    eps: Hyper = 1e-3
    axis: int | tuple[int, ...] | None = None
    axis_names: Mapping[int, Hashable] | None = None
    limits = {"clipping": "[0, inf)", "eps": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        shape, over = list(update.shape), {}
        for k, names in (self.axis_names or {}).items():
            if -len(shape) <= k < len(shape):
                k %= len(shape)
                over[k] = shard_axes(update, names)
                shape[k] *= jax.lax.axis_size(over[k]) if over[k] else 1
        axes = _neuron_axes(tuple(shape)) if self.axis is None else self.axis
        axes = tuple(k % max(len(shape), 1) for k in (axes if isinstance(axes, tuple) else (axes,)))
        # A mesh axis that shards the other axes of a leaf leaves whole neurons on every device.
        over = tuple(name for k in axes for name in over.get(k, ()))
        unit, ratio = _neuron_norm(param, axes, over)
        limit = self.clipping * jnp.maximum(unit * ratio, jnp.asarray(self.eps).astype(unit.dtype))
        unit, ratio = _neuron_norm(update, axes, over)
        factor, unit = shrink(unit, ratio, limit)
        return update / unit * factor, state

    def tex(self, g: Tex, page: Page) -> Tex:
        def size(x: Tex) -> Tex:
            if self.axis == ():
                return Tex(rf"\left|{x.text}\right|")
            return page.norm(x, r"_{\mathrm{n}}", r"\text{: the norm of the entries of one neuron}")

        g, least = page.symbol(g), page.number(self.eps, r"\epsilon").text
        weights = Tex(rf"\max\left({size(THETA).text}, {least}\right)")
        limit = times(page.number(self.clipping), weights)
        return times(at_most_one(fraction(limit, size(g))), g)


def at_most_one(x: Tex) -> Tex:
    """The smaller one of 1 and `x`, as an equation."""
    return Tex(rf"\min\left(1, {x.text}\right)")


def _neuron_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    if sum(size != 1 for size in shape) <= 1:
        return tuple(range(len(shape)))
    return (0,) if len(shape) <= 3 else tuple(range(len(shape) - 1))


def _neuron_norm(x: jax.Array, axes: Any, over: Any) -> tuple[jax.Array, jax.Array]:
    """`norm_parts` along the given axes, which are kept with length 1, and over mesh axes."""
    parts = real_parts(x)
    tops = [jnp.max(jnp.abs(part), axes, keepdims=True, initial=0) for part in parts]
    largest = tops[0] if len(tops) == 1 else jnp.maximum(*tops)
    if over:
        largest = jax.lax.pmax(jax.lax.stop_gradient(largest), over)
    unit = unit_of(largest)
    total = sum(jnp.sum(jnp.square(part / unit), axes, keepdims=True) for part in parts)
    return unit, sqrt(jax.lax.psum(total, over) if over else total)


def shrink(unit: jax.Array, ratio: jax.Array, limit: Any) -> tuple[jax.Array, jax.Array]:
    """The factor and the divisor that bring the norm `unit * ratio` down to at most `limit`.

    The factor is NaN if the norm is not finite.
    """
    limit = jnp.asarray(limit).astype(unit.dtype)
    one = jnp.ones_like(ratio)
    above = ratio > limit / unit
    factor = jnp.where(above, limit / jnp.where(above, ratio, one), one)
    # `0 * ratio` is NaN if the norm is not finite, and 0 otherwise. A constant NaN, chosen by `where`,
    # would stop every un-jitted run under `jax_debug_nans`.
    factor += 0 * ratio
    return factor, jnp.where(above, unit, jnp.ones_like(unit))

"""Arithmetic that no finite gradient breaks: squares, roots, averages and norms."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype, real_dtype, scalar
from gradtx._core.numbers import Number
from gradtx._core.sharding import varying_axes
from gradtx._core.trees import PyTree


def abs_square(x: jax.Array) -> jax.Array:
    """|x|^2 as a real array."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def squarable(x: jax.Array, terms: int = 1) -> jax.Array:
    """`x` with entries that are too large to be squared brought down to where they can be.

    For what divides by a root mean square, only the direction of such an entry can matter; but its
    square would be infinite, and the state lost for good. A sum of as many squares as `terms` says
    stays finite as well.
    """
    limit = 2.0 ** (jnp.finfo(real_dtype(x.dtype)).maxexp // 2 - 1) / math.sqrt(terms)
    if jnp.iscomplexobj(x):
        # By the larger part, since the absolute value of a finite number may be infinite.
        size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
        shrink = jnp.where(size > limit, limit / nonzero_or_one(size), jnp.ones_like(size))
        return jax.lax.complex(x.real * shrink, x.imag * shrink)
    # One operation: XLA computes it again wherever it is used, where it would write more to memory.
    return jnp.clip(x, -limit, limit)


def bounded(x: jax.Array) -> jax.Array:
    """`squarable(x)`, and NaN where `x` is infinite, so that an infinity is not hidden."""
    return squarable(x) + 0 * x


@jax.custom_jvp
def sqrt(x: jax.Array) -> jax.Array:
    """The square root, with slope 0 at 0."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: Any, tangents: Any) -> Any:
    # The slope at 0 is infinite; in a quotient with epsilon the true derivative there is that of the
    # numerator alone, so the root contributes 0.
    (x,), (dx,) = primals, tangents
    y = jnp.sqrt(x)
    zero = y == 0
    return y, jnp.where(zero, jnp.zeros_like(dx), dx / (2 * jnp.where(zero, jnp.ones_like(y), y)))


def global_norm(tree: PyTree, axis_name: Any = None) -> jax.Array:
    r"""The Euclidean norm of all arrays of `tree` together, $\sqrt{\sum |x|^2}$, without overflow.

    Args:
        tree: a pytree of arrays.
        axis_name: inside `shard_map`, the mesh axis (or the tuple of axes) whose shards are one tree; by
            default the norm is that of what this device holds.

    Reduced in float32 at least. Squares of numbers above 1e19 overflow and below 1e-19 vanish, so when
    the plain sum leaves the safe range, and only then, it is taken again on the scaled arrays.

    >>> import gradtx, jax.numpy as jnp
    >>> f"{gradtx.global_norm({'a': jnp.array([3e30]), 'b': jnp.array([4e30])}):.4g}"
    '5e+30'
    """
    unit, ratio = norm_parts(tree, axis_name)
    return unit * ratio


@functools.partial(jax.jit, static_argnums=1)  # eagerly, `cond` would be compiled at every step
def norm_parts(tree: PyTree, axis_name: Any = None) -> tuple[jax.Array, jax.Array]:
    """The global norm as two factors, since that of finite arrays may itself be beyond all numbers."""
    leaves = [x for x in jax.tree.leaves(tree) if x.size]
    dtype = real_dtype(compute_dtype(*leaves))
    pieces = [piece.astype(dtype) for x in leaves for piece in real_parts(x)]
    if not pieces:
        return jnp.ones((), dtype), jnp.zeros((), dtype)

    kinds: dict[Any, list[int]] = {}  # by the axes over which a piece is a shard
    for i, x in enumerate(pieces):
        kinds.setdefault(shard_axes(x, axis_name), []).append(i)

    def over_shards(values: list[jax.Array], join: Any, reduce: Any) -> jax.Array:
        """The values, one of each piece, joined on this device and reduced over its shards."""
        joined = [(axes, join([values[i] for i in own])) for axes, own in kinds.items()]
        return join([reduce(x, axes) if axes else x for axes, x in joined])

    def greatest(values: list[jax.Array]) -> jax.Array:
        return functools.reduce(jnp.maximum, values)

    def scaled(pieces: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        tops = [jax.lax.stop_gradient(jnp.max(jnp.abs(x))) for x in pieces]
        largest = over_shards(tops, greatest, jax.lax.pmax)
        # Within what has a reciprocal: who divides by the unit may multiply by that instead. The norm
        # does not depend on the unit, so neither does the derivative.
        unit = jnp.clip(nonzero_or_one(largest), limits.tiny, limits.max * 2.0**-16)
        squares = [jnp.sum(jnp.square(x / unit)) for x in pieces]
        return unit, sqrt(over_shards(squares, sum, jax.lax.psum))

    limits = jnp.finfo(dtype)
    plain = over_shards([jnp.sum(jnp.square(x)) for x in pieces], sum, jax.lax.psum)
    safe = (plain > limits.tiny / limits.eps) & (plain < limits.max)
    # `ones_like`, since both branches must vary over the same axes of a mesh inside `shard_map`.
    return jax.lax.cond(safe, lambda _: (jnp.ones_like(plain), sqrt(plain)), scaled, pieces)


def shard_axes(x: jax.Array, axis_name: Any) -> tuple[Any, ...]:
    """Those of the named axes over which `x` is a shard and not replicated, as far as is known."""
    if axis_name is None:
        return ()
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    # With `check_vma=False`, and under `pmap`, not even the index of a device is known to vary.
    return tuple(
        name
        for name in names
        if name in varying_axes(x) or name not in varying_axes(jax.lax.axis_index(name))
    )


def average(mean: jax.Array, x: jax.Array, decay: Any) -> jax.Array:
    """`decay * mean + (1 - decay) * x`, in forms that do not overflow between finite numbers."""
    # The first form keeps a slow average exactly at a constant. `x - mean` would overflow where both
    # are huge and of opposite sign; for a fast average so would the first form.
    rate = 1 - decay
    slow, fast = mean + (rate * x - rate * mean), decay * mean + rate * x
    if isinstance(decay, float):
        return slow if decay >= 0.99 else fast
    return jnp.where(decay >= 0.99, slow, fast)


def average_of_squares(mean: jax.Array, square: jax.Array, decay: Any) -> jax.Array:
    """`decay * mean + (1 - decay) * square` of numbers that are not negative.

    Their difference cannot overflow, so the shortest form that keeps an average at a constant is safe.
    """
    # For a fast average the square is the larger part, and the second form keeps it exact.
    slow, fast = mean + (1 - decay) * (square - mean), decay * mean + (1 - decay) * square
    if isinstance(decay, float):
        return slow if decay >= 0.5 else fast
    return jnp.where(decay >= 0.5, slow, fast)


def log(decay: Any) -> Any:
    """The logarithm of a decay by way of its complement, which is the number that moments use.

    A Python number is taken in the host's float64; for an array `1 - decay` is exact in the array's
    own precision. The logarithm of 0 is a large finite number, whose exponential is 0 as well.
    """
    if isinstance(decay, Number):
        return decay.log
    if isinstance(decay, float):
        return math.log1p(-(1 - decay)) if decay > 0 else _LOG_OF_ZERO
    return jnp.maximum(jnp.log1p(-(1 - scalar(decay))), _LOG_OF_ZERO)


_LOG_OF_ZERO = -1e30


def compensated_add(total: jax.Array, x: jax.Array) -> jax.Array:
    """`total`, a sum and what rounding took from it (shape (2,)), with `x` added to it."""
    # Kahan, 1965: a plain float32 sum of logarithms would lose the corrections that it is there for.
    y = x - total[1]
    new = jnp.maximum(total[0] + y, _LOG_OF_ZERO)
    lost = jnp.where(new > _LOG_OF_ZERO, (new - total[0]) - y, jnp.zeros_like(new))
    return jnp.stack([new, lost])


def real_parts(x: jax.Array) -> tuple[jax.Array, ...]:
    """`x`, or the real and the imaginary part of a complex one."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def nonzero_or_one(unit: jax.Array) -> jax.Array:
    """`unit`, or 1 where `unit` cannot divide: where it is 0, or not finite."""
    return jnp.where((unit > 0) & (unit < jnp.inf), unit, jnp.ones_like(unit))

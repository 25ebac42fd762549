"""Squares, roots, averages and norms that stay finite for every finite gradient."""

import functools
import math
from collections.abc import Hashable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gradtx._core.authors import described
from gradtx._core.dtypes import compute_dtype, real_dtype, scalar
from gradtx._core.numbers import Number
from gradtx._core.ranges import scaled_sum_of_squares, squares
from gradtx._core.shapes import Alike, Scalar
from gradtx._core.sharding import varying_axes
from gradtx._core.sizes import nonzero_or_one as nonzero_or_one, unit_of as unit_of
from gradtx._core.trees import PyTree, flatten, paths

# A sum, and what rounding took from it.
Compensated = Annotated[jax.Array, "2"]


def abs_square(x: Alike) -> Alike:
    """The squared absolute value of each entry, as a real array."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def squarable(x: Alike, terms: int = 1) -> Alike:
    """`x` with every entry clipped to a size whose square is finite.

    Without clipping, the square of a huge entry would be infinite, and an average of squares would
    stay infinite forever. An update that is divided by a root mean square needs no more than the
    direction of such an entry. A sum of `terms` squares stays finite, too.
    """
    limit = 2.0 ** (jnp.finfo(real_dtype(x.dtype)).maxexp // 2 - 1) / math.sqrt(terms)
    if jnp.iscomplexobj(x):
        # Scaled by the larger of the two parts, since the absolute value of finite parts may overflow.
        size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
        shrink = jnp.where(size > limit, limit / nonzero_or_one(size), jnp.ones_like(size))
        return jax.lax.complex(x.real * shrink, x.imag * shrink)
    # `clamp` is a single operation, so that XLA repeats it wherever the result is used, and does not
    # write it to memory. `jnp.clip` fills two arrays with the limits, which take longer to compile.
    low, high = np.array([-limit, limit], x.dtype)
    return jax.lax.clamp(low, x, high)


def bounded(x: Alike, clipped: Alike | None = None) -> Alike:
    """`squarable(x)`, which may be passed, but NaN where `x` is infinite, so that this is not hidden."""
    clipped = squarable(x) if clipped is None else clipped
    # A complex number becomes NaN in both parts. The difference is 0 or NaN, and -0.0 stays -0.0.
    return clipped + 0 * x if jnp.iscomplexobj(x) else clipped - (x - x)


@jax.custom_jvp
def sqrt(x: Alike) -> Alike:
    """The square root, whose derivative at 0 is 0 and not infinite."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: Any, tangents: Any) -> Any:
    # The true derivative at 0 is infinite. In a quotient g / (sqrt(v) + eps), however, g is 0 wherever
    # v is 0, so the derivative of the quotient does not depend on the root there, and 0 is right.
    (x,), (dx,) = primals, tangents
    y = jnp.sqrt(x)
    zero = y == 0
    return y, jnp.where(zero, jnp.zeros_like(dx), dx / (2 * jnp.where(zero, jnp.ones_like(y), y)))


def global_norm(tree: PyTree, axis_name: Hashable | None = None) -> Scalar:
    r"""The Euclidean norm of all arrays of `tree` together, $\sqrt{\sum |x|^2}$, without overflow.

    Args:
        tree: a pytree of arrays.
        axis_name: inside `shard_map`, the mesh axis, or a tuple of axes, over which the arrays are
            sharded; the norm is then reduced over the shards. None means the norm of this device's part.

    The sum is computed in float32 at least. The squares of numbers above 1e19 overflow and those of
    numbers below 1e-19 vanish, so if the plain sum leaves the safe range, and only then, the sum is
    computed again from scaled arrays. On a GPU, which waits at each branch, both are always computed.

    Raises:
        TypeError: if a leaf of `tree` is neither an array nor a number.
        ValueError: if the mesh lacks an axis of this name.

    >>> import gradtx, jax.numpy as jnp
    >>> f"{gradtx.global_norm({'a': jnp.array([3e30]), 'b': jnp.array([4e30])}):.4g}"
    '5e+30'
    """
    leaves, _ = flatten(tree)
    for i, x in enumerate(leaves):
        if x is not None and not hasattr(x, "dtype") and not isinstance(x, int | float | complex):
            raise TypeError(
                f"`global_norm(tree)`: the leaf at `{paths(tree)[i] or '.'}` is {described(x)} and not "
                "an array. Pass a tree of arrays, such as the gradients."
            )
    try:
        unit, ratio = norm_parts(leaves, axis_name)
    except (NameError, ValueError) as error:
        if axis_name is None or not ("axis name" in str(error) or "ashable" in str(error)):
            raise
        raise ValueError(
            f"`global_norm(axis_name={axis_name!r})` must be the name of a mesh axis of the `shard_map` "
            "around it, or a tuple of such names. Outside of `shard_map`, leave it out."
        ) from None
    return unit * ratio


@functools.partial(jax.jit, static_argnums=1)  # un-jitted, `cond` would compile at every step
def norm_parts(tree: PyTree, axis_name: Any = None) -> tuple[Scalar, Scalar]:
    """The global norm as two factors, since the norm of finite arrays may itself overflow."""
    leaves = [x for x in jax.tree.leaves(tree) if x.size]
    dtype = real_dtype(compute_dtype(*leaves))
    pieces = [piece.astype(dtype) for x in leaves for piece in real_parts(x)]
    if not pieces:
        return jnp.ones((), dtype), jnp.zeros((), dtype)

    kinds: dict[Any, list[int]] = {}  # the pieces by the mesh axes over which they are sharded
    for i, x in enumerate(pieces):
        kinds.setdefault(shard_axes(x, axis_name), []).append(i)

    def over_shards(values: list[jax.Array], join: Any, reduce: Any) -> jax.Array:
        """The values, one per piece, joined on this device and then reduced over the shards."""
        joined = [(axes, join([values[i] for i in own])) for axes, own in kinds.items()]
        return join([reduce(x, axes) if axes else x for axes, x in joined])

    if jax.default_backend() == "gpu":
        unit, ratio = scaled_sum_of_squares(pieces, lambda x: over_shards(x, sum, jax.lax.psum))
        return unit, sqrt(ratio)

    def greatest(values: list[jax.Array]) -> jax.Array:
        return functools.reduce(jnp.maximum, values)

    def scaled(pieces: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        tops = [jax.lax.stop_gradient(jnp.max(jnp.abs(x))) for x in pieces]
        largest = over_shards(tops, greatest, jax.lax.pmax)
        unit = unit_of(largest)  # the norm does not depend on it, so it needs no derivative
        terms = [jnp.sum(squares(x / unit)) for x in pieces]
        return unit, sqrt(over_shards(terms, sum, jax.lax.psum))

    limits = jnp.finfo(dtype)
    plain = over_shards([jnp.sum(squares(x)) for x in pieces], sum, jax.lax.psum)
    safe = (plain > limits.tiny / limits.eps) & (plain < limits.max)
    # `ones_like`, because inside `shard_map` both branches must vary over the same mesh axes.
    return jax.lax.cond(safe, lambda _: (jnp.ones_like(plain), sqrt(plain)), scaled, pieces)


def shard_axes(x: jax.Array, axis_name: Any) -> tuple[Any, ...]:
    """The axes in `axis_name` over which `x` is sharded and not replicated, as far as JAX knows."""
    if axis_name is None:
        return ()
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    # With `check_vma=False`, and under `pmap`, JAX does not track which arrays vary over an axis: not
    # even the index of the device does. Then every array counts as sharded.
    return tuple(
        name
        for name in names
        if name in varying_axes(x) or name not in varying_axes(jax.lax.axis_index(name))
    )


def average(mean: Alike, x: Alike, decay: Any) -> Alike:
    """`decay * mean + (1 - decay) * x`, which does not overflow if `mean` and `x` are finite."""
    # The form `slow` keeps a slow average of a constant exactly at that constant. Its shorter variant
    # with `x - mean` would overflow where the two are huge and of opposite sign. For a fast average the
    # form `slow` would overflow, too.
    rate, known = 1 - decay, isinstance(decay, float)  # then one form is traced
    if known and decay < 0.99:
        return decay * mean + rate * x
    slow = mean + (rate * x - rate * mean)
    return slow if known else jnp.where(decay >= 0.99, slow, decay * mean + rate * x)


def average_of_squares(mean: Alike, square: Alike, decay: Any) -> Alike:
    """`decay * mean + (1 - decay) * square`, where both numbers are 0 or more.

    The difference of two such numbers cannot overflow, so a shorter form than in `average` is safe.
    """
    # In a fast average the square has the larger weight, and the first form rounds it less.
    rate, known = 1 - decay, isinstance(decay, float)
    if known and decay < 0.5:
        return decay * mean + rate * square
    slow = mean + rate * (square - mean)
    return slow if known else jnp.where(decay >= 0.5, slow, decay * mean + rate * square)


def log(decay: Any) -> Any:
    """The logarithm of a decay, computed from `1 - decay`, which is the factor that moments use.

    The logarithm of a Python number is computed on the host, in float64. For an array, `1 - decay` is
    exact in the precision of the array. The logarithm of 0 is replaced by a large negative number,
    whose exponential is 0 as well.
    """
    if isinstance(decay, Number):
        return decay.log
    if isinstance(decay, float):
        return math.log1p(-(1 - decay)) if 1 - decay < 1 else _LOG_OF_ZERO
    return jnp.maximum(jnp.log1p(-(1 - scalar(decay))), _LOG_OF_ZERO)


_LOG_OF_ZERO = -1e30


def compensated_add(total: Compensated, x: Scalar) -> Compensated:
    """Add `x` to the sum `total[0]`, where `total[1]` is the sum's rounding error so far."""
    # Kahan, 1965. The rounding errors of a plain float32 sum would add up over many steps, and the
    # bias correction that is computed from this sum would become wrong.
    y = x - total[1]
    new = jnp.maximum(total[0] + y, _LOG_OF_ZERO)
    lost = jnp.where(new > _LOG_OF_ZERO, (new - total[0]) - y, jnp.zeros_like(new))
    return jnp.stack([new, lost])


def real_parts(x: Alike) -> tuple[Alike, ...]:
    """The real and the imaginary part of `x` if it is complex, else `x` alone."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def filled_like(x: Alike, value: Any) -> Alike:
    """An array of one number, or one per matrix, with the shape, the dtype and the sharding of `x`."""
    if jnp.ndim(value):  # `full_like` would lose the sharding of `x`, see `placed_like`
        value = jnp.asarray(value, x.dtype)
        return jnp.where(x == x, value, value)
    return placed_like(jnp.full_like(x, value), x)


def placed_like(new: Alike, x: Alike) -> Alike:
    """`new`, so that the compiler lets it lie where `x` lies, on a mesh with axes of the type Auto.

    It would put a constant, or an array that is computed from the whole of `x`, on every device. The
    result of a choice by `x` lies where `x` does. Both choices are equal, so the compiler then removes
    the choice.
    """
    return jnp.where(x == x, new, new) if _is_auto(x) else new


def everywhere(x: Alike) -> Alike:
    """`x`, so that the compiler puts it on every device, on a mesh with axes of the type Auto."""
    if not _is_auto(x):
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(jax.typeof(x).sharding.mesh, P()))


def _is_auto(x: Any) -> bool:
    """Whether the compiler decides where `x` lies."""
    return isinstance(x, Tracer) and AxisType.Auto in jax.typeof(x).sharding.mesh.axis_types

"""Arithmetic that no finite gradient breaks: squares, roots, averages and norms."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype, real_dtype
from gradtx._core.trees import PyTree


def abs_square(x: jax.Array) -> jax.Array:
    """|x|^2 as a real array."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def squarable(x: jax.Array) -> jax.Array:
    """`x` with entries that are too large to be squared brought down to where they can be.

    For what divides by a root mean square, only the direction of such an entry can matter; but its
    square would be infinite, and the state lost for good. An infinite entry is brought down too: in
    the numerator, by `bounded`, it stays and shows.
    """
    limit = 2.0 ** (jnp.finfo(real_dtype(x.dtype)).maxexp // 2 - 1)
    if jnp.iscomplexobj(x):
        # By the larger part, since the absolute value of a finite number may be infinite.
        size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
        shrink = jnp.where(size > limit, limit / usable(size), jnp.ones_like(size))
        return jax.lax.complex(x.real * shrink, x.imag * shrink)
    # One operation: XLA computes it again wherever it is used, where it would write more to memory.
    return jnp.clip(x, -limit, limit)


def bounded(x: jax.Array) -> jax.Array:
    """`squarable(x)`, but infinite where `x` is: what stands beside its own squares."""
    return jnp.where(jnp.isinf(x), x, squarable(x))


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


def global_norm(tree: PyTree) -> jax.Array:
    r"""The Euclidean norm of all arrays of `tree` together, $\sqrt{\sum |x|^2}$, without overflow.

    Reduced in float32 at least. Squares of numbers above 1e19 overflow and below 1e-19 vanish, so when
    the plain sum leaves the safe range, and only then, it is taken again on the scaled arrays.

    >>> import gradtx, jax.numpy as jnp
    >>> f"{gradtx.global_norm({'a': jnp.array([3e30]), 'b': jnp.array([4e30])}):.4g}"
    '5e+30'
    """
    unit, ratio = norm_parts(tree)
    return unit * ratio


@jax.jit  # called eagerly too, where `cond` would be compiled at every step
def norm_parts(tree: PyTree) -> tuple[jax.Array, jax.Array]:
    """The global norm as two factors, since that of finite arrays may itself be beyond all numbers."""
    leaves = [x for x in jax.tree.leaves(tree) if x.size]
    dtype = real_dtype(compute_dtype(*leaves))
    parts = [part.astype(dtype) for x in leaves for part in real_parts(x)]
    if not parts:
        return jnp.ones((), dtype), jnp.zeros((), dtype)
    plain = sum(jnp.sum(jnp.square(x)) for x in parts)
    limits = jnp.finfo(dtype)
    safe = (plain > limits.tiny / limits.eps) & (plain < limits.max)
    return jax.lax.cond(safe, lambda _: (jnp.ones((), dtype), sqrt(plain)), _scaled, parts)


def _scaled(parts: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in parts]))
    # Within what has a reciprocal: who divides by the unit may multiply by that instead. The norm does
    # not depend on it, so nor does the derivative.
    limits = jnp.finfo(largest.dtype)
    unit = jnp.clip(usable(largest), limits.tiny, limits.max * 2.0**-16)
    unit = jax.lax.stop_gradient(unit)
    return unit, sqrt(sum(jnp.sum(jnp.square(x / unit)) for x in parts))


def real_parts(x: jax.Array) -> tuple[jax.Array, ...]:
    """`x`, or the real and the imaginary part of a complex one."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def usable(unit: jax.Array) -> jax.Array:
    """`unit`, or 1 where one cannot divide by it; what is not finite goes through and shows."""
    return jnp.where((unit > 0) & (unit < jnp.inf), unit, jnp.ones_like(unit))

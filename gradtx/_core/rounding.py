"""Stochastic rounding: to one of the two neighbors in a narrower dtype, right on average."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import is_float8, real_dtype, saturated
from gradtx._core.random_bits import bits_like, mixed


def round_stochastically(x: jax.Array, dtype: Any, key: jax.Array) -> jax.Array:
    r"""`x` in a narrower dtype, rounded at random to one of its two neighbors.

    $$ P(\text{upper neighbor}) = \frac{x - \text{lower}}{\text{upper} - \text{lower}} $$

    So the mean of the result is `x`. A number of this dtype, an infinity and NaN are unchanged, and a
    finite number beyond the largest one is rounded to the nearest, as a plain cast does it. In 8 bits it
    becomes the largest number.

    Args:
        x: a floating or complex array. The parts of a complex array are rounded independently.
        dtype: the dtype of the result.
        key: a key of `jax.random`.
    """
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        real = real_dtype(dtype)
        parts = zip((x.real, x.imag), jax.random.split(key), strict=True)
        return jax.lax.complex(*[round_stochastically(part, real, k) for part, k in parts])
    if jnp.finfo(dtype).nmant >= jnp.finfo(x.dtype).nmant:  # the dtype is as wide
        return jax.lax.convert_element_type(x, dtype)
    x = _at_most_largest(x, dtype) if is_float8(dtype) else x
    return _rounded(x, dtype, jax.random.uniform(key, x.shape, x.dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def round_by_hash(x: jax.Array, dtype: Any, seed: jax.Array) -> jax.Array:
    """`round_stochastically` without a key, see `random_bits.py`.

    A finite number beyond the largest one of the dtype becomes the largest one. Derivatives pass through
    as through a cast.

    Args:
        x: a floating or complex array. The parts of a complex array are rounded independently.
        dtype: the dtype of the result.
        seed: a uint32 scalar, such as `seed_of(count, 0)`.
    """
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        real = real_dtype(dtype)
        parts = zip((x.real, x.imag), (seed, mixed(seed)), strict=True)
        return jax.lax.complex(*[round_by_hash(part, real, s) for part, s in parts])
    if jnp.finfo(dtype).nmant >= jnp.finfo(x.dtype).nmant:
        return saturated(x, dtype)
    x = _at_most_largest(x, dtype)
    return _rounded(x, dtype, uniform_like(x, seed).astype(x.dtype))


@round_by_hash.defjvp
def _(dtype: Any, primals: Any, tangents: Any) -> Any:
    out = round_by_hash(primals[0], dtype, primals[1])
    return out, jax.lax.convert_element_type(tangents[0], out.dtype)


def _at_most_largest(x: jax.Array, dtype: Any) -> jax.Array:
    """`x` with its finite numbers limited to the largest number of a narrower dtype."""
    largest = float(jnp.finfo(dtype).max)
    return jnp.where(jnp.isfinite(x), jnp.clip(x, -largest, largest), x)


def uniform_like(x: jax.Array, seed: jax.Array) -> jax.Array:
    """Uniform float32 numbers in [0, 1), one for every entry of `x`."""
    return (bits_like(x, seed) >> np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-24)


def nearest(x: jax.Array, dtype: Any) -> jax.Array:
    """Real numbers rounded to the nearest one of a narrower dtype, in the dtype of `x`.

    XLA may leave out two casts that follow one another, and so the rounding; it does not leave out this.
    """
    if dtype == jnp.bfloat16:
        return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
    return jax.lax.optimization_barrier(x.astype(dtype)).astype(x.dtype)


def spacing(x: jax.Array, dtype: Any) -> jax.Array:
    """The distance between a finite number of a narrow dtype and the next larger one, as a float32.

    Args:
        x: numbers of the narrow dtype, in any dtype.
        dtype: the narrow dtype, which has at most 24 bits.
    """
    info = jnp.finfo(dtype)
    _, exponent = jnp.frexp(x.astype(jnp.float32))
    # A distance below 2**-126 would be zero on processors that flush subnormal numbers.
    lowest = max(int(info.minexp), -126 + int(info.nmant))
    exponent = jnp.where(x == 0, lowest, jnp.maximum(exponent - 1, lowest))
    return jnp.ldexp(jnp.ones_like(x, jnp.float32), exponent - info.nmant)


def _rounded(x: jax.Array, dtype: jnp.dtype, uniform: jax.Array) -> jax.Array:
    """`x` rounded up where `uniform` is below the fraction of the distance to the upper neighbor."""
    info = jnp.finfo(dtype)
    is_plain = ~jnp.isfinite(x) | (jnp.abs(x) > float(info.max))
    if x.dtype == jnp.float32:
        rounded = _cut(x, info, uniform)
        return jax.lax.convert_element_type(jnp.where(is_plain, x, rounded), dtype)
    # The number is an integer and a fraction, in units of the distance between its neighbors, which is
    # the same for all numbers with this exponent, and for all subnormal numbers.
    mantissa, exponent = jnp.frexp(x)
    unit = jnp.maximum(exponent - 1, info.minexp) - info.nmant
    scaled = jnp.ldexp(mantissa, exponent - unit)
    lower = jnp.floor(scaled)
    chosen = lower + (uniform < scaled - lower).astype(x.dtype)
    # The power of two is multiplied in two steps, since it may be smaller than any normal number.
    half = unit // 2
    rounded = jnp.ldexp(jnp.ldexp(chosen, half), unit - half)
    is_plain = is_plain | (chosen == scaled)
    return jax.lax.convert_element_type(jnp.where(is_plain, x, rounded), dtype)


def _cut(x: jax.Array, info: Any, uniform: jax.Array) -> jax.Array:
    """`_rounded` for float32, without powers of two, which is several times faster."""
    # A random number is added to the bits that are cut off, so that a carry out of them rounds up.
    dropped = 2 ** (23 - int(info.nmant)) - 1
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    random = (uniform * (dropped + 1)).astype(jnp.uint32)
    bits = (bits + (np.uint32(dropped) - random)) & np.uint32(0xFFFFFFFF - dropped)
    rounded = jax.lax.bitcast_convert_type(bits, jnp.float32)
    lowest = int(info.minexp)
    if lowest <= -126:
        return rounded
    # The subnormal numbers of the dtype are the multiples of its smallest number.
    scaled = x * 2.0 ** (int(info.nmant) - lowest)
    lower = jnp.floor(scaled)
    small = lower + (uniform < scaled - lower).astype(x.dtype)
    small = small * 2.0 ** (lowest - int(info.nmant))
    return jnp.where(jnp.abs(x) < 2.0**lowest, small, rounded)

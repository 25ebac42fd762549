"""Stochastic rounding: to one of the two neighbors in a narrower dtype, right on average."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import real_dtype


def round_stochastically(x: jax.Array, dtype: Any, key: jax.Array) -> jax.Array:
    r"""`x` in a narrower dtype, rounded at random to one of its two neighbors.

    $$ P(\text{upper neighbor}) = \frac{x - \text{lower}}{\text{upper} - \text{lower}} $$

    So the mean of the result is `x`. A number of this dtype, an infinity and NaN are unchanged, and a
    finite number beyond the largest one is rounded to the nearest, as a plain cast does it.

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
    info, own = jnp.finfo(dtype), jnp.finfo(x.dtype)
    if info.nmant >= own.nmant:  # the dtype is as wide
        return jax.lax.convert_element_type(x, dtype)
    # The number is an integer and a fraction, in units of the distance between its neighbors, which is
    # the same for all numbers with this exponent, and for all subnormal numbers.
    mantissa, exponent = jnp.frexp(x)
    unit = jnp.maximum(exponent - 1, info.minexp) - info.nmant
    scaled = jnp.ldexp(mantissa, exponent - unit)
    lower = jnp.floor(scaled)
    uniform = jax.random.uniform(key, x.shape, x.dtype)
    chosen = lower + (uniform < scaled - lower).astype(x.dtype)
    # The power of two is multiplied in two steps, since it may be smaller than any normal number.
    half = unit // 2
    rounded = jnp.ldexp(jnp.ldexp(chosen, half), unit - half)
    is_plain = ~jnp.isfinite(x) | (jnp.abs(x) > float(info.max)) | (chosen == scaled)
    return jax.lax.convert_element_type(jnp.where(is_plain, x, rounded), dtype)

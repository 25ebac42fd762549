"""How `compensated` splits a number into a narrow parameter and the remainder that is kept beside it.

A split is given the parameter `p` and the change `s` that it is to make, both in float32. It returns the
update, such that the parameter becomes `p + update`, rounded to its dtype, and the new remainder. The
remainder is rounded at random, so that the sum of the two is right on average, for changes of any size.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.random_bits import mixed
from gradtx._core.rounding import nearest, round_by_hash, spacing, uniform_like

# An 8-bit remainder counts in units of 1/256 of the distance from the parameter to the next number.
_PARTS = 256


def in_bfloat16(
    p: jax.Array, s: jax.Array, dtype: Any, seed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The update `s`, and what its sum with the parameter loses, in bfloat16.

    Args:
        p: the parameter.
        s: the change.
        dtype: the dtype of the parameter.
        seed: a uint32 scalar.
    """
    new = nearest(p + s, dtype)
    # Kahan's form keeps more digits of `s` than the difference of `p + s` and `new`.
    return s, round_by_hash(_finite_or_zero(s - (new - p)), jnp.bfloat16, seed)


def in_8_bits(
    p: jax.Array, s: jax.Array, dtype: Any, seed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The update, which is `s` rounded to the grid of 8-bit remainders, and the remainder as an int8.

    Args:
        p: the parameter.
        s: the change.
        dtype: the dtype of the parameter.
        seed: a uint32 scalar.
    """
    near = nearest(p + s, dtype)
    unit = _unit(near, dtype)
    rest = (s - (near - p)) / unit
    lower = jnp.floor(rest)
    steps = lower + (uniform_like(p, seed) < rest - lower).astype(jnp.float32)
    # The middle of two numbers has no 8-bit remainder that a rounding to nearest cannot turn over, so it
    # moves up or down by one unit, at random.
    tie = jnp.abs(steps) == _PARTS // 2
    aside = jnp.where(uniform_like(p, mixed(seed)) < 0.5, np.float32(1), np.float32(-1))
    steps = jnp.where(tie, steps + aside, steps)
    update = (near - p) + steps * unit
    # An infinite or NaN sum stays visible in the parameter.
    update = jnp.where(jnp.isfinite(near) & jnp.isfinite(s), update, s)
    total = p + update
    new = nearest(total, dtype)
    left = jnp.round(_finite_or_zero(total - new) / _unit(new, dtype))
    return update, jnp.clip(_finite_or_zero(left), -127, 127).astype(jnp.int8)


def decoded(p: jax.Array, remainder: jax.Array, dtype: Any) -> jax.Array:
    """The remainder of a parameter as a float32 array, from either of its two forms."""
    if remainder.dtype != jnp.int8:
        return remainder.astype(jnp.float32)
    return remainder.astype(jnp.float32) * _unit(p, dtype)


def _unit(p: jax.Array, dtype: Any) -> jax.Array:
    """The unit of an 8-bit remainder of a parameter, which is never below the normal numbers."""
    return jnp.maximum(spacing(_finite_or_zero(p), dtype) / _PARTS, np.float32(2.0**-126))


def _finite_or_zero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x))

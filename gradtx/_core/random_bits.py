"""Random bits from a hash of a seed and of the position in an array, without a key.

A state that needs random numbers would otherwise hold a key. The bits are the same in every way to run:
jitted or not, in a scan, for every member of a sweep, and for every sharding of the array.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_GOLDEN = np.uint32(0x9E3779B9)  # the golden ratio, times 2**32


def mixed(x: jax.Array) -> jax.Array:
    """A one-to-one function of uint32 numbers whose every bit depends on every bit of the argument.

    This is the finalizer of MurmurHash3 (Appleby, 2011).
    """
    for shift, factor in ((16, np.uint32(0x85EBCA6B)), (13, np.uint32(0xC2B2AE35))):
        x = (x ^ (x >> np.uint32(shift))) * factor
    return x ^ (x >> np.uint32(16))


def seed_of(count: jax.Array, number: int) -> jax.Array:
    """A seed for the array with this number in a state that is encoded for the `count`-th time."""
    return mixed(count.astype(jnp.uint32) + np.uint32(number * int(_GOLDEN) % 2**32))


def bits_like(x: Any, seed: jax.Array) -> jax.Array:
    """Uniform uint32 numbers, one for every entry of an array.

    Args:
        x: an array with the shape of the result.
        seed: a uint32 scalar.
    """
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis in range(x.ndim):
        stride = np.uint32(math.prod(x.shape[axis + 1 :]) % 2**32)
        position += stride * jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return mixed(position * _GOLDEN + seed)


def bits_of_keys(tree: Any) -> Any:
    """`tree` with the bits of every key of `jax.random` in place of the key."""

    def bits(x: Any) -> Any:
        dtype = getattr(x, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
            return x
        known = isinstance(x, jax.ShapeDtypeStruct)
        return jax.eval_shape(jax.random.key_data, x) if known else jax.random.key_data(x)

    return jax.tree.map(bits, tree)

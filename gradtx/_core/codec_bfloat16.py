"""Codecs with bfloat16: with eight more bits beside it, and rounded at random."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.codecs import Codec
from gradtx._core.rounding import round_by_hash

# The bits of the largest finite number and of infinity in bfloat16, which is the upper half of float32.
_LARGEST, _INFINITE = 0x7F7F, 0x7F80
_SIGN = np.uint32(0x80000000)


class SplitFloat(NamedTuple):
    """The code of `bfloat16_plus_8`.

    Attributes:
        high: the array in bfloat16.
        low: what is missing to the array, in units of 1/128 of half the distance from one bfloat16
            number to the next.
    """

    high: Any
    low: Any


class bfloat16_plus_8(Codec):
    r"""Keep a bfloat16 number and eight bits of correction: the first 24 bits of float32.

    $$ x \approx h + \frac{c}{128} \cdot \frac{\mathrm{ulp}(h)}{2}, \qquad
       h = \mathrm{bfloat16}(x), \quad c \in \{-128, \dots, 127\} $$

    The relative error is at most $2^{-16}$, and half of it on average. Encoding a decoded array again
    gives the same code. A finite number beyond the last one is stored as the last one, and infinities
    and NaN stay what they are. A code takes 3 bytes per entry. Derivatives pass through the
    bfloat16 number.

    Source: 2026, arXiv:2602.23349, where the correction is rounded from the difference in float32.

    >>> import gradtx, jax.numpy as jnp
    >>> codec = gradtx.bfloat16_plus_8()
    >>> code = codec.encode(jnp.float32(0.1), None)
    >>> float(code.high), int(code.low), float(codec.decode(code))
    (0.10009765625, -51, 0.10000038146972656)
    """

    def encode(self, x: jax.Array, seed: Any) -> SplitFloat:
        return _split(x)

    def decode(self, code: SplitFloat) -> jax.Array:
        return _joined(*code)


class bfloat16_stochastic(Codec):
    r"""Keep bfloat16 numbers, rounded at random to one of the two neighbors, so that the mean is right.

    $$ P(\text{upper neighbor}) = \frac{x - \text{lower}}{\text{upper} - \text{lower}} $$

    The random bits are a hash of the number of the step and of the position in the array, so that a run
    can be repeated and no key is needed. All members of a sweep, and all shards inside `shard_map`, get
    the same bits. The mean of the result is $x$, so that small changes of an average are not lost. A
    number that bfloat16 has, an infinity and NaN are unchanged, and a finite number beyond the largest
    one becomes the largest one. A code takes 2 bytes per entry. Derivatives pass through.

    >>> import gradtx, jax.numpy as jnp
    >>> x, seeds = jnp.full(10_000, 1.001), jnp.uint32(0)
    >>> code = gradtx.bfloat16_stochastic().encode(x, seeds)
    >>> sorted(set(code.tolist())), round(float(code.astype(jnp.float32).mean()), 3)
    ([1.0, 1.0078125], 1.001)
    """

    def encode(self, x: jax.Array, seed: Any) -> jax.Array:
        return round_by_hash(x, jnp.bfloat16, seed)

    def decode(self, code: jax.Array) -> jax.Array:
        return code.astype(jnp.float32)


def _parts(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sign bit and the other bits of a float32 array; every NaN becomes the same one."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    size = bits & ~_SIGN
    nan = np.uint32((_INFINITE << 16) + (1 << 22))
    return bits & _SIGN, jnp.where(size > np.uint32(_INFINITE << 16), nan, size)


def _bfloat16(sign: jax.Array, size: jax.Array) -> jax.Array:
    """The bfloat16 numbers of these sign bits and these 15 other bits."""
    bits = ((sign >> np.uint32(16)) | size).astype(jnp.uint16)
    return jax.lax.bitcast_convert_type(bits, jnp.bfloat16)


@jax.custom_jvp
def _split(x: jax.Array) -> SplitFloat:
    sign, size = _parts(x)
    finite = size < np.uint32(_INFINITE << 16)
    # Integers are rounded, which also carries into the exponent where a mantissa overflows.
    rounded = (size + np.uint32(128)) >> np.uint32(8)
    most = np.uint32((_LARGEST << 8) + 127)
    rounded = jnp.where(finite, jnp.minimum(rounded, most), rounded)
    high = (rounded + np.uint32(128)) >> np.uint32(8)
    low = rounded.astype(jnp.int32) - (high << np.uint32(8)).astype(jnp.int32)
    return SplitFloat(_bfloat16(sign, high), low.astype(jnp.int8))


@_split.defjvp
def _(primals: Any, tangents: Any) -> Any:
    out = _split(*primals)
    none = np.zeros(out.low.shape, jax.dtypes.float0)
    return out, SplitFloat(tangents[0].astype(jnp.bfloat16), none)


@jax.custom_jvp
def _joined(high: jax.Array, low: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(high, jnp.uint16).astype(jnp.uint32) << np.uint32(16)
    # The sign bit is set aside, so that the correction changes the absolute value.
    size = (bits & ~_SIGN).astype(jnp.int32) + (low.astype(jnp.int32) << 8)
    return jax.lax.bitcast_convert_type((bits & _SIGN) | size.astype(jnp.uint32), jnp.float32)


@_joined.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return _joined(*primals), tangents[0].astype(jnp.float32)

"""The blockwise 8-bit codec, whose values are dense near zero and equally spaced within a decade."""

import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.codecs import Codec
from gradtx._core.rounding import uniform_like
from gradtx._core.sharding import is_sharded, replicated

_DECADES = 7
_LEAST = 0.1 + 0.9 * 63.5 / 64  # the absolute value of the signed code's least value
# A value that is off by some roundings is not moved to the next one.
_MARGIN = 2.0**-13
_F32 = jnp.finfo(jnp.float32)


class Blocks(NamedTuple):
    """The code of `blockwise_int8`.

    Attributes:
        codes: uint8 numbers in the shape of the array.
        scales: one float32 number per block: its largest absolute value, with a minus sign if the block
            has the signed code.
    """

    codes: Any
    scales: Any


class blockwise_int8(Codec):
    r"""Keep one byte per entry and one float32 scale per block, in the dynamic code of 8-bit Adam.

    An entry is stored as a value of a fixed table times the scale of its block, which is the largest
    absolute value in the block. The table has seven decades, and in decade $e$ it has the values

    $$ \pm 10^{-e} \left(0.1 + 0.9 \frac{i + 1/2}{n_e}\right), \qquad i < n_e, \quad
       e = 0, \dots, 6, $$

    beside 0 and 1. A block without negative entries, such as every block of a second moment, has the
    unsigned code with $n_e = 2^{7-e}$. Every other block has the signed code with $n_e = 2^{6-e}$. This
    is decided anew at every step, and the sign of the scale records it, so that a transformation does
    not have to declare what it keeps.

    An entry becomes one of the two values beside it, at random, so that the mean is right. The random
    bits are a hash of the number of the step and of the position in the array, so a run can be repeated.
    The paper rounds to the nearest value. Then an average whose change per step is smaller than half the
    distance between two values never changes: after the gradients have become smaller, a second moment
    may stay too large by a factor of 300 for ever.

    A positive entry of the unsigned code is never stored as 0, but at least as 3.25e-7 times the
    largest entry of its block. So a quotient by the root of a second moment cannot become huge.
    Infinite and NaN entries spread to their block. A finite block is decoded to finite numbers.

    The last axis is cut into blocks of equal length. If the last axis has fewer than `block_size`
    entries, then it is first joined with the axes before it until they have that many together. The
    number of blocks is the least power of 2 with which a block has at most `block_size` entries, so that
    blocks fit into the shards of most meshes. Derivatives do not pass through the code.

    Args:
        block_size: the largest number of entries in a block.
        rounding: "stochastic", or "nearest" as in the paper.

    Raises:
        ValueError: if `block_size` is less than 2, or if `rounding` is unknown.

    Source: Dettmers et al., 2021, arXiv:2110.02861, sections 2.1 and 2.2.

    >>> import gradtx, jax.numpy as jnp
    >>> codec = gradtx.blockwise_int8(rounding="nearest")
    >>> codec.decode(codec.encode(jnp.array([1.0, -0.5, 0.01, 0.0]), None)).round(4)
    Array([ 1.    , -0.5008,  0.0097,  0.    ], dtype=float32)
    """

    block_size: int = 256
    rounding: Literal["stochastic", "nearest"] = "stochastic"
    holds_parameters: ClassVar[bool] = False

    def validate(self) -> None:
        if self.block_size < 2:
            raise ValueError(
                f"`blockwise_int8(block_size={self.block_size})` must be a whole number of entries, "
                "2 or more."
            )

    def encode(self, x: jax.Array, seed: Any) -> Blocks:
        blocks = self._cut(x)
        low, high = jnp.min(blocks, -1), jnp.max(blocks, -1)
        # The signed code has the value 1, and not the value -1.
        below = jnp.where(jnp.isfinite(low), jnp.minimum(-low / _LEAST, _F32.max), -low)
        size = jnp.maximum(high, below)
        size = jnp.where(size < _F32.tiny, 0.0, size)
        scales = jnp.where(low >= 0, size, -size)
        scale = self._spread(scales, x)
        unsigned, wide = scale >= 0, jnp.where(scale >= 0, 2.0, 1.0)
        ratio = jnp.abs(x) / jnp.where(scale == 0, 1.0, jnp.abs(scale))
        u: Any = 0.5
        if self.rounding == "stochastic":
            u = _MARGIN + (1 - 2 * _MARGIN) * uniform_like(x, seed)
        rank = _rank(ratio, wide, u)
        kept = jnp.maximum(rank, (x > 0).astype(x.dtype))
        signed = jnp.where(x < 0, 127 - jnp.minimum(rank, 127), 127 + rank)
        return Blocks(jnp.where(unsigned, kept, signed).astype(jnp.uint8), scales)

    def decode(self, code: Blocks) -> jax.Array:
        codes, scale = code.codes.astype(jnp.float32), self._spread(code.scales, code.codes)
        unsigned = scale >= 0
        rank = jnp.where(unsigned, codes, jnp.abs(codes - 127))
        size = _value(rank, jnp.where(unsigned, 2.0, 1.0)) * jnp.abs(scale)
        return jnp.where(unsigned | (codes >= 127), size, -size)

    def _cut(self, x: jax.Array) -> jax.Array:
        """`x` in blocks, along its last but one axis; their entries lie along the last axis."""
        axes, length, count = blocks_of(x.shape, self.block_size)
        if is_sharded(x) and not _fits(x, axes, length, count):
            x, _ = replicated(x)
        x = x.reshape(*x.shape[:axes], length)
        size = -(-length // count)
        if size * count > length:  # zeros change neither the scale of a block nor its sign
            x = jnp.pad(x, [(0, 0)] * axes + [(0, size * count - length)])
        return x.reshape(*x.shape[:-1], count, size)

    def _spread(self, scales: jax.Array, x: jax.Array) -> jax.Array:
        """The scale of every entry of `x`, in the shape and with the sharding of `x`."""
        axes, length, count = blocks_of(x.shape, self.block_size)
        if is_sharded(scales) and not (is_sharded(x) and _fits(x, axes, length, count)):
            scales, _ = replicated(scales)
        size = -(-length // count)
        rows = jnp.broadcast_to(scales[..., None], (*scales.shape, size))
        rows = rows.reshape(*scales.shape[:-1], count * size)
        rows = rows if count * size == length else rows[..., :length]
        out = rows.reshape(x.shape)
        if is_sharded(x) and jax.typeof(out).sharding != jax.typeof(x).sharding:
            out = jax.sharding.reshard(out, jax.typeof(x).sharding)
        return out


def blocks_of(shape: tuple[int, ...], block_size: int) -> tuple[int, int, int]:
    """How an array is cut: the number of axes that are left, the length of a row, and its blocks."""
    axes, length = len(shape), 1
    while axes and length < block_size:
        axes -= 1
        length *= shape[axes]
    return axes, length, 1 << max(0, math.ceil(length / block_size) - 1).bit_length()


def _fits(x: jax.Array, axes: int, length: int, count: int) -> bool:
    """Whether every block of a sharded array lies within one shard."""
    sharding = jax.typeof(x).sharding
    spec = [*sharding.spec, *[None] * x.ndim][: x.ndim]
    first = spec[axes] if axes < x.ndim else None
    names = first if isinstance(first, tuple) else () if first is None else (first,)
    shards = math.prod(sharding.mesh.shape[name] for name in names)
    inside = shards == 1 or (count % shards == 0 and length % count == 0)
    return inside and all(axis is None for axis in spec[axes + 1 :])


# The values of the table grow with their number along straight lines, which become steeper from decade
# to decade. So a value is the largest one of seven linear functions of its number, and a number is the
# least one of linear functions of the value. This is faster than a look-up and a search. `wide` is 2
# or 1, and decade e has n = 2**(6 - e) * wide values, of which the first has the number n - wide + 1.


def _value(rank: jax.Array, wide: jax.Array) -> jax.Array:
    """The value of the table with this number, counted from 0."""
    place = (rank - 0.5) / wide + 1
    lines = [10.0**-e * (0.9 / 2.0 ** (6 - e)) * place - 0.8 * 10.0**-e for e in range(_DECADES)]
    return jnp.clip(functools.reduce(jnp.maximum, lines), 0.0, 1.0)


def _rank(y: jax.Array, wide: jax.Array, u: Any) -> jax.Array:
    """The number of a value of the table next to each number in [0, 1].

    Args:
        y: the numbers.
        wide: 2 for the unsigned code and 1 for the signed one.
        u: where between one value and the next the threshold lies; 0.5 gives the nearest value.
    """

    def least(width: float, decades: int) -> jax.Array:
        lines = []
        for e in range(decades):
            n = 2.0 ** (6 - e)
            lines.append(n * 10.0**e / width * y + n * (1 - 0.1 / width))
        return functools.reduce(jnp.minimum, lines)

    inside = wide * (least(0.9, _DECADES) - 1) + 0.5
    # The distance from the last value of a decade to the first one of the next is 0.54 / n.
    across = wide * (least(0.54, _DECADES - 1) - 1) + 1 / 6
    from_zero = y * (1e6 / (0.1 + 0.45 / wide))
    exact = jnp.minimum(jnp.minimum(inside, across), from_zero)
    # The distance from the last value to 1 is half of the distance between the values before.
    exact = jnp.maximum(exact, 2 * exact - 127 * wide)
    return jnp.clip(jnp.floor(exact + (1 - u)), 0, 127 * wide + 1)

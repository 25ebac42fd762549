"""The sum of squares of numbers of any size, in one pass and without a branch.

A GPU that comes to a branch waits until its host has read the condition, and the host cannot queue the
next step meanwhile. So all numbers are squared three times, unchanged, scaled down and scaled up, and
one of the three sums is chosen. All three read the numbers once.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from gradtx._core.shapes import Alike, Scalar


def squares(x: Alike) -> Alike:
    """The square of every number, whose derivative does not overflow where that of `jnp.square` does."""
    return x * x


def scaled_sum_of_squares(
    pieces: list[jax.Array], total: Callable[[list[jax.Array]], Scalar]
) -> tuple[Scalar, Scalar]:
    r"""A power of two $s$, and $\sum x^2 / s^2$, where neither overflows nor loses its digits.

    Args:
        pieces: arrays of one real dtype, with up to $2^{40}$ numbers in all.
        total: how the sums of the pieces are added.

    Source: Blue, 1978, "A portable Fortran program to find the Euclidean norm of a vector".
    """
    limits = jnp.finfo(pieces[0].dtype)
    # The largest number squared, and 2^40 of them, stay below the largest number after scaling down.
    down = 2.0 ** -(limits.maxexp // 2 + 20)
    # A norm below this size has a plain sum that has lost digits. Scaled up, the smallest of all numbers
    # has a square in which no digit is lost.
    small = 2.0 ** math.ceil(math.log2(limits.tiny / limits.eps) / 2)
    up = 8 * small / float(limits.tiny) / float(limits.eps)

    # Without `clip`, a large number would become infinite, and its derivative would become NaN.
    scales = lambda x: x, lambda x: x * down, lambda x: jnp.clip(x, -small, small) * up

    def three_sums(x: jax.Array) -> jax.Array:
        # First along the last axis, and then the three side by side, in a second kernel for all of them.
        # `jnp.stack` gave NaN here for small arrays of three dtypes on an H100 (JAX 0.11.2).
        rows = [jnp.sum(squares(scale(jnp.atleast_1d(x))), axis=-1) for scale in scales]
        which = jnp.arange(3).reshape(3, *(1 for _ in rows[0].shape))
        beside = jnp.where(which == 0, rows[0], jnp.where(which == 1, rows[1], rows[2]))
        return jnp.sum(beside.reshape(3, -1), axis=1)

    plain, large, little = total([three_sums(x) for x in pieces])
    is_large, is_little = ~(plain < limits.max), plain <= limits.tiny / limits.eps

    def choose(large: jax.Array, little: jax.Array, plain: jax.Array) -> jax.Array:
        return jnp.where(is_large, large, jnp.where(is_little, little, plain))

    one = jnp.ones_like(plain)
    return choose(one / down, one / up, one), choose(large, little, plain)

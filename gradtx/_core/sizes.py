"""Sizes that are divided out of arrays, so that squares neither overflow nor vanish."""

import jax.numpy as jnp

from gradtx._core.shapes import Alike


def nonzero_or_one(unit: Alike) -> Alike:
    """`unit`, but 1 where it is 0, infinite or NaN, so that one can divide by it.

    A number that is not normal counts as 0, because a CPU takes it for 0 when it divides, and not always
    when it compares.
    """
    normal = (unit >= float(jnp.finfo(unit.dtype).tiny)) & (unit < jnp.inf)
    return jnp.where(normal, unit, jnp.ones_like(unit))


def unit_of(largest: Alike) -> Alike:
    """A number to divide an array by whose largest entry is `largest`, so that its squares are finite.

    It is 1 for 0, for an infinity and for a NaN, and otherwise `largest`, as long as its reciprocal is a
    normal number.
    """
    limits = jnp.finfo(largest.dtype)
    return jnp.clip(nonzero_or_one(largest), float(limits.tiny), float(limits.max) * 2.0**-16)


def in_units(x: Alike, unit: Alike) -> Alike:
    """`x` divided by a number of `unit_of`, where another division may follow.

    XLA makes one division of two, by the product of the divisors, which may overflow. Where it divides
    complex numbers, it divides by the square of an absolute value, which may overflow, too.
    """
    return x * (1 / unit).astype(x.dtype)

"""Quotients and angles of two arrays, which are 0 at 0 / 0, as is their derivative; and signs."""

import jax
import jax.numpy as jnp

from gradtx._core.numerics import nonzero_or_one
from gradtx._core.shapes import Alike


def divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """The quotient, which is 0 where the denominator is 0."""
    # A root mean square is 0 only if the gradients so far are 0 or their squares underflow. The inner
    # `where` keeps the derivative finite there, too.
    zero = b == 0
    return jnp.where(zero, jnp.zeros((), a.dtype), a / jnp.where(zero, jnp.ones((), b.dtype), b))


def arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of the points (x, y), where `x` is real and 0 or more.

    At the origin, the angle and its derivative are 0. For a complex `y`, the angle is that of `|y|` and
    is multiplied by the direction of `y`.
    """
    origin = (y == 0) & (x == 0)
    x = jnp.where(origin, jnp.ones_like(x), x)
    if not jnp.iscomplexobj(y):
        return jnp.arctan2(y, x)
    # The absolute value has no derivative at 0, so that another number stands in for 0.
    zero = y == 0
    size = jnp.abs(jnp.where(zero, jnp.ones_like(y), y))
    # A `constant` has the dtype of the gradient, and an imaginary part of 0.
    return jnp.where(zero, jnp.zeros_like(y), sign(y) * jnp.arctan2(size, x.real))


def sign(x: Alike) -> Alike:
    """The sign, or `x / |x|` for a complex `x`, also where the absolute value of `x` overflows."""
    return jnp.sign(scaled_parts(x)[0] if jnp.iscomplexobj(x) else x)


def scaled_parts(x: Alike) -> tuple[Alike, Alike]:
    """A complex `x` as `small * unit`, where the larger part of each entry of `small` is 1.

    Where a part of an entry is infinite, which is what a product with a large number makes of it, `unit`
    is the largest finite number, and a finite part counts as 0. A NaN stays a NaN.
    """
    infinite = jnp.isinf(x.real) | jnp.isinf(x.imag)
    top = jnp.finfo(x.dtype).max
    parts = []
    for part in (x.real, x.imag):
        finite = jnp.where(infinite & ~jnp.isnan(part), jnp.zeros_like(part), part)
        parts.append(jnp.where(jnp.isinf(part), jnp.copysign(top, part), finite))
    unit = nonzero_or_one(jnp.maximum(*map(jnp.abs, parts)))
    return jax.lax.complex(parts[0] / unit, parts[1] / unit), unit

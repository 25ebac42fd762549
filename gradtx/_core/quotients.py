"""Quotients and angles of two arrays, which are 0 at 0 / 0, as is their derivative."""

import jax
import jax.numpy as jnp


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
    return jnp.where(zero, jnp.zeros_like(y), y / size * jnp.arctan2(size, x))

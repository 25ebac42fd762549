"""Paths from one value to the next, from which most schedules are built.

A *leg* goes from one value at one step to another value at a later step, and its *shape* says how. A
shape maps the shares of the leg that have elapsed and that remain to the weights of the two values.
Neither weight is computed as one minus the other, so that a value close to either end has a small
relative error.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.numerics import sqrt
from gradtx._schedules.steps import progress, since

Shape: TypeAlias = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def linear(elapsed: jax.Array, remaining: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights of the first and of the last value on a straight line."""
    return remaining, elapsed


def cosine(elapsed: jax.Array, remaining: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights on half a period of a cosine: (1 + cos(pi x)) / 2 is the square of cos(pi x / 2)."""
    weights = (jnp.square(jnp.sin(math.pi / 2 * x)) for x in (remaining, elapsed))
    return next(weights), next(weights)


def one_minus_sqrt(elapsed: jax.Array, remaining: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The weights on 1 - sqrt(x): the descent is steep at the beginning."""
    root = sqrt(elapsed)
    return remaining / (1 + root), root  # (1 - x) / (1 + sqrt(x)) = 1 - sqrt(x)


SHAPES: dict[str, Shape] = {"linear": linear, "cosine": cosine, "1-sqrt": one_minus_sqrt}


def powered(shape: Shape, exponent: Any) -> Shape:
    """A shape in which the weight of the first value is raised to a power."""
    if isinstance(exponent, float) and exponent == 1:
        return shape

    def weights(elapsed: jax.Array, remaining: jax.Array) -> tuple[jax.Array, jax.Array]:
        weight, _ = shape(elapsed, remaining)
        # The inner `where` keeps the derivative finite where the weight is 0.
        positive, power = weight > 0, scalar(exponent)
        at_zero = (power == 0).astype(weight.dtype)
        weight = jnp.where(positive, jnp.where(positive, weight, 1) ** power, at_zero)
        return weight, 1 - weight

    return weights


def leg(
    count: Any, begin: Any, end: Any, first: Any, last: Any, shape: Shape = linear
) -> jax.Array:
    """The value on one leg: `first` up to the step `begin`, and `last` from the step `end` on."""
    before, after = shape(*progress(count, begin, end))
    return scalar(first) * before + scalar(last) * after


def path(count: Any, first: Any, *legs: tuple[Any, Any, Shape]) -> jax.Array:
    """The value on a path of several legs, of which the first begins at step 0.

    Args:
        count: the step.
        first: the value at step 0.
        legs: for each leg the step at which it ends, the value at this step, and the shape.
    """
    begin, value, result = 0.0, first, None
    for end, last, shape in legs:
        here = leg(count, begin, end, value, last, shape)
        result = here if result is None else jnp.where(since(count, begin) >= 0, here, result)
        begin, value = end, last
    return held(count, first) if result is None else result


def held(count: Any, value: Any) -> jax.Array:
    """The same value at every step, with the shape of `count`."""
    value = scalar(value)
    return jnp.broadcast_to(value, jnp.broadcast_shapes(value.shape, jnp.shape(count)))

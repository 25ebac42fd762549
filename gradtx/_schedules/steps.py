"""Counts of steps: their differences, and how much of a phase has elapsed.

A count is an int32, and float32 represents integers exactly only up to 2**24. So the differences here
are computed from two parts of each number, and are exact to one rounding for every int32.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar

_PART = (
    4096  # both parts of an int32 are exact in float32: multiples of 4096, and what is below 4096
)
_LARGEST = 2**31 - 1


def as_count(count: Any) -> jax.Array:
    """A count, or an array of counts, as int32 or int64, or as a float if it is not an integer."""
    if isinstance(count, int) and not -_LARGEST <= count <= _LARGEST:
        count = float(count)
    x = jnp.asarray(count)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return scalar(x)
    return x if x.dtype == jnp.int64 else x.astype(jnp.int32)


def number(x: Any) -> Any:
    """A number to compute with: a Python number remains one, and is computed in float64."""
    return float(x) if isinstance(x, int | float) else scalar(x)


def since(count: Any, begin: Any) -> jax.Array:
    """The number of steps from `begin` to `count`, as a float that is rounded once."""
    (high, low), (start, rest) = _parts(as_count(count)), _parts(begin)
    return (high - start) + (low - rest)


def _parts(x: Any) -> tuple[jax.Array, jax.Array]:
    """Two floats whose sum is `x`, so that a difference of the first parts is exact near 0."""
    if isinstance(x, int | float):
        rest = x % _PART
        return scalar(float(x - rest)), scalar(float(rest))
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        return scalar(x), scalar(0.0)
    rest = x % x.dtype.type(_PART)
    return scalar(x - rest), scalar(rest)


def counted_from(count: Any, begin: Any) -> jax.Array:
    """`count - begin` for another schedule: an integer if both are, which is then exact."""
    count = as_count(count)
    whole = jnp.issubdtype(count.dtype, jnp.integer)
    if isinstance(begin, int | float):
        whole = whole and float(begin).is_integer() and abs(begin) <= _LARGEST
    else:
        whole = whole and jnp.issubdtype(jnp.asarray(begin).dtype, jnp.integer)
    if not whole:
        return since(count, begin)
    start = jnp.asarray(int(begin) if isinstance(begin, float) else begin).astype(count.dtype)
    difference = count - start
    # Beyond the largest integer, the difference with a negative `begin` stays at the largest one.
    too_large = (start < 0) & (difference < count)
    return jnp.where(too_large, jnp.iinfo(count.dtype).max, difference)


def progress(count: Any, begin: Any, end: Any) -> tuple[jax.Array, jax.Array]:
    """The shares of a phase that have elapsed and that remain, each in [0, 1].

    Each of the two is computed on its own, so that a share near 0 is as exact as one near 1. A phase
    without any steps has elapsed at `begin`.

    Args:
        count: the step.
        begin: the step at which the phase begins.
        end: the step at which the phase ends.
    """
    steps, elapsed = scalar(number(end) - number(begin)), since(count, begin)
    lasts = steps > 0
    divisor = jnp.where(lasts, steps, 1)
    over = (elapsed >= 0).astype(elapsed.dtype)
    share = jnp.where(lasts, jnp.clip(elapsed / divisor, 0, 1), over)
    rest = jnp.where(lasts, jnp.clip(-since(count, end) / divisor, 0, 1), 1 - over)
    return share, rest


def sum_of_steps(*steps: Any) -> float | None:
    """The sum of several numbers of steps, or None if one of them is an array."""
    return sum(steps) if all(isinstance(x, float) for x in steps) else None


def whole_phases(count: Any, begin: Any, steps: Any) -> jax.Array:
    """How many phases of `steps` steps have elapsed since the step `begin`, rounded down."""
    elapsed = counted_from(count, begin)
    exact = isinstance(steps, float) and steps.is_integer() and steps <= _LARGEST
    if exact and jnp.issubdtype(elapsed.dtype, jnp.integer):
        return scalar(elapsed // elapsed.dtype.type(steps))
    elapsed, steps = scalar(elapsed), scalar(steps)
    steps = jnp.where(steps > 0, steps, 1)  # a traced number may be 0
    # The quotient may be rounded to the wrong side of an integer, and the remainder shows it.
    phases = jnp.floor(elapsed / steps)
    rest = elapsed - phases * steps
    return phases + (rest >= steps).astype(rest.dtype) - (rest < 0).astype(rest.dtype)

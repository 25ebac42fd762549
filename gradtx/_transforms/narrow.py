"""Averages and sums that are kept in a dtype narrower than float32, and so are rounded at random.

A number that changes by less than half the distance to its neighbor is rounded back to itself. A second
moment with $b = 0.999$ changes by 1/1000 per step at most, and the distance of two bfloat16 numbers is
up to 1/128 of them. Rounded to nearest, such an average would stop at a quarter of its limit, and it
would never fall again. Rounded at random to one of its two neighbors, it is right on average.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.random_bits import seed_of
from gradtx._core.rounding import round_by_hash
from gradtx._core.schedule import next_count


def is_narrow(dtype: Any) -> bool:
    """Whether `dtype` has a shorter significand than float32; None does not."""
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        return False
    return bool(jnp.finfo(dtype).nmant < jnp.finfo(jnp.float32).nmant)


def refuse_small_range(tx: Any) -> None:
    """Refuse an accumulator of squares in a dtype in which small squares are zero.

    Raises:
        ValueError: if `accumulator_dtype` of `tx` is narrow and has a shorter exponent than float32.
    """
    dtype = tx.accumulator_dtype
    if is_narrow(dtype) and jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp:
        name = jnp.dtype(dtype).name
        raise ValueError(
            f"`{type(tx).__name__}(accumulator_dtype={name!r})`: the square of a small gradient is zero "
            f"in {name}, and the update, which is divided by its root, would be huge. Pass None for "
            "float32, or 'bfloat16', which has the range of float32. "
            "`gradtx.stored(optimizer, 'int8')` keeps the whole state in 8 bits."
        )


def _begins(self: Any) -> bool:
    return self.accumulator_dtype is not None and is_narrow(self.accumulator_dtype)


# A class with an `accumulator_dtype` declares `begins = begins_if_narrow`: it counts steps only then.
begins_if_narrow: Any = functools.cached_property(_begins)


def begin_rounding(state: Any) -> tuple[Any, Any]:
    """What `begin` of an accumulator with a counter returns: the state, and the seed of this step."""
    count = next_count(state.count)
    return state._replace(count=count), seed_of(count, 0)


def kept(x: jax.Array, dtype: Any, seed: Any) -> jax.Array:
    """The new value of an accumulator, as it is kept.

    Args:
        x: the value in float32 at least. A complex value is kept in complex64 at least.
        dtype: the dtype that the author of the optimizer asked for.
        seed: the seed of this step, or None if `dtype` is not narrow.
    """
    return x if seed is None or jnp.iscomplexobj(x) else round_by_hash(x, dtype, seed)

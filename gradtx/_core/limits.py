"""The intervals that hyperparameters have to lie in, and which numbers and arrays are checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._core.static import show
from gradtx._core.tuned import Tuned

# The interval of a number that may have any sign and size, and any precision.
FINITE = "(-inf, inf)"


def outside(value: Any, interval: str) -> str:
    """What is wrong with a hyperparameter that has to lie in `interval`, or an empty string.

    Args:
        value: a number, an array, or anything else, which is not checked.
        interval: an interval such as `"[0, 1)"`.
    """
    if isinstance(value, float | int):
        return "" if in_interval(value, interval) else f"must lie in {interval}"
    if isinstance(value, Tuned):
        value.within(interval)  # it is not known here, and `set` checks it by what it has noted
        return ""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return ""
    floating = jnp.issubdtype(dtype, jnp.floating)
    if not floating and not jnp.issubdtype(dtype, jnp.integer):
        return ""  # `check_hyperparameter` refuses bools and complex numbers
    if floating and interval != FINITE and jnp.finfo(dtype).nmant < 23:
        # Optax's `inject_hyperparams` hands over numbers in the dtype of the parameters.
        return (
            f"has the dtype {dtype}, and a number that must lie in {interval} needs float32 at least: "
            "0.999 in bfloat16 is 1. Pass a Python number or a float32 array; with "
            "`inject_hyperparams`, pass `hyperparam_dtype=jnp.float32`"
        )
    if not is_free_to_read(value):
        return ""
    entries = np.asarray(value)
    inside = in_interval(entries.astype(np.float64), interval)
    if np.all(inside):
        return ""
    if not entries.ndim:
        return f"must lie in {interval}"
    first = tuple(map(int, np.argwhere(~inside)[0]))
    place = ", ".join(map(str, first))
    return f"must lie in {interval}, and its entry [{place}] is {show(entries[first].item())}"


def is_free_to_read(x: Any) -> bool:
    """Whether the entries of an array are known, and lie in the memory of the host."""
    if isinstance(x, np.ndarray):
        return True
    if not isinstance(x, jax.Array) or isinstance(x, Tracer) or x.is_deleted():
        return False  # an array that was donated is deleted
    return x.is_fully_addressable and all(d.platform == "cpu" for d in x.devices())


def in_interval(value: Any, interval: str) -> Any:
    """Whether a number, or every entry of an array, lies in an interval such as `"[0, 1)"`."""
    low, high = map(float, interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above & below

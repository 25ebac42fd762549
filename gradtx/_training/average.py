"""Functions of loops that Optax has, too: an average of two trees, and a counter that stops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gradtx._core.authors import described
from gradtx._core.dtypes import compute_dtype
from gradtx._core.trees import PyTree, flatten, is_inexact


def incremental_update(new_tensors: PyTree, old_tensors: PyTree, step_size: ArrayLike) -> PyTree:
    r"""The average $\alpha\, x + (1 - \alpha)\, y$ of new and old parameters, as target networks use it.

    Each entry is computed in float32 at least, and rounded once to the dtype of the old entry. A leaf
    that is not a floating or complex array is taken from the new tree.

    Args:
        new_tensors: the tree $x$ of the new parameters.
        old_tensors: the tree $y$ of the old parameters, which has the same structure.
        step_size: $\alpha$, a number or a scalar array in [0, 1].

    Raises:
        ValueError: if the trees differ in structure.
        TypeError: if `step_size` is not a number.

    Source: Lillicrap et al., 2015, arXiv:1509.02971, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.incremental_update({"w": jnp.ones(2)}, {"w": jnp.zeros(2)}, 0.25)
    {'w': Array([0.25, 0.25], dtype=float32)}
    """

    is_scalar = isinstance(step_size, int | float) or getattr(step_size, "shape", None) == ()
    if not is_scalar or isinstance(step_size, bool):
        raise TypeError(
            "`incremental_update(step_size=...)` must be a number or a scalar array, not "
            f"{described(step_size)}."
        )
    leaves, structure = flatten(old_tensors)
    try:
        others = structure.flatten_up_to(new_tensors)
    except ValueError as error:
        raise ValueError(
            f"`incremental_update`: the new tree does not fit the structure of the old one: {error}"
        ) from None

    def mixed(new: Any, old: Any) -> Any:
        if not is_inexact(new):
            return new
        new, old = jnp.asarray(new), jnp.asarray(old)
        dtype = compute_dtype(new, old)
        a = jnp.asarray(step_size).astype(dtype)
        return (a * new.astype(dtype) + (1 - a) * old.astype(dtype)).astype(old.dtype)

    return structure.unflatten(map(mixed, others, leaves))


def safe_increment(count: ArrayLike) -> jax.Array:
    """The counter plus one, except that it stays at the largest number of its dtype.

    Args:
        count: a scalar array of an integer or a floating dtype, or a Python integer, which counts as an
            int32.

    Raises:
        TypeError: if `count` is not a number.

    >>> import gradtx, jax.numpy as jnp
    >>> int(gradtx.safe_increment(jnp.int32(2**31 - 1)))
    2147483647
    """
    if isinstance(count, bool) or not (isinstance(count, int | float) or hasattr(count, "dtype")):
        raise TypeError(f"`safe_increment(count)` needs a number, not {described(count)}.")
    count = jnp.asarray(count, jnp.int32 if isinstance(count, int) else None)
    if jnp.issubdtype(count.dtype, jnp.integer):
        largest = jnp.iinfo(count.dtype).max
    elif jnp.issubdtype(count.dtype, jnp.floating):
        largest = jnp.finfo(count.dtype).max
    else:
        raise TypeError(
            f"`safe_increment(count)` needs an integer or a floating number, not {described(count)}."
        )
    one = np.ones((), count.dtype)
    return jnp.where(count < np.asarray(largest, count.dtype), count + one, count)

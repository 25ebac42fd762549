"""The state that a method returned, compared with the state that it was given.

The comparisons need only shapes and dtypes, so under `jit` they are made once, when a step is traced.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import (
    hook_name,
    init_hook,
    other_shape,
    other_state,
    wrong_begin,
    wrong_scalar,
)
from gradtx._core.dtypes import cast
from gradtx._core.layout import Layout
from gradtx._core.sharding import replacing
from gradtx._core.trees import is_inexact_dtype


def checked_arrays(tx: Any, layout: Layout, new: Any, old: list[Any]) -> list[Any]:
    """The arrays of the new state of a leaf, which must have the shapes and kinds of the old ones."""
    try:
        arrays = layout.pick(layout.arrays, new)
    except ValueError:
        raise other_state(tx, layout, new) from None
    for i, o in enumerate(old):
        if getattr(arrays[i], "shape", None) != o.shape:
            if o.shape or not isinstance(arrays[i], int | float | complex):
                raise other_shape(tx, layout.names[layout.arrays[i]], arrays[i], o)
            arrays[i] = jnp.asarray(arrays[i])
        if is_inexact_dtype(arrays[i].dtype) and not is_inexact_dtype(o.dtype):
            raise _fraction(tx, layout.names[layout.arrays[i]], arrays[i], o)
    return arrays


def _fraction(tx: Any, name: str, new: Any, old: Any) -> TypeError:
    """The error for fractions where the old state has whole numbers, which would be cut off."""
    return TypeError(
        f"{hook_name(tx)} returned {new.dtype} for `{name}` of its state, and the old `{name}` is "
        f"{old.dtype}. Return a state like the one that {init_hook(tx)} returns. If the state came from "
        "a checkpoint, restore it with the dtypes of `jax.eval_shape(tx.init, params)`."
    )


def old_scalars(tx: Any, layout: Layout, scalars: list[Any]) -> list[jax.Array]:
    """The shared scalars of the state that was passed, in the dtypes that they start with.

    Raises:
        ValueError: if a scalar has another shape than at the start, since it may be broadcast.
    """
    old = []
    for i, (x, start) in enumerate(zip(scalars, layout.starts, strict=True)):
        if np.shape(x) != start.shape:
            raise ValueError(
                f"`{layout.names[layout.scalars[i]]}` in the state of `{type(tx).__name__}` has shape "
                f"{np.shape(x)} instead of {start.shape}. Map over a batch of states with `jax.vmap`."
            )
        same = isinstance(x, jax.Array) and x.dtype == start.dtype and not x.weak_type
        old.append(x if same else cast(jnp.asarray(x), start.dtype))
    return old


def checked_scalars(tx: Any, layout: Layout, new: Any, old: list[jax.Array]) -> list[jax.Array]:
    """The new shared scalars, in the dtypes and shapes of the old ones."""
    try:
        scalars = layout.pick(layout.scalars, new)
    except (ValueError, TypeError):
        raise wrong_begin(tx, new, first=True) from None
    checked = []
    for i, (n, o) in enumerate(zip(scalars, old, strict=True)):
        number = not o.shape and isinstance(n, int | float)
        if not number and getattr(n, "shape", None) != o.shape:
            raise wrong_scalar(tx, layout.names[layout.scalars[i]], n, o)
        if not isinstance(n, jax.Array) or n.weak_type or n.dtype != o.dtype:
            n = cast(jnp.asarray(n), o.dtype)
        checked.append(replacing(o, n))
    return checked

"""The dtypes in which arrays are computed, stored and returned."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from gradtx._core.authors import described
from gradtx._core.sharding import replacing
from gradtx._core.trees import PyTree, is_inexact_dtype


@functools.lru_cache
def promote(*dtypes: Any) -> jnp.dtype:
    """The common dtype of `dtypes`, also under strict dtype promotion, since these casts are intended.

    JAX does not promote 8-bit floats. Here, an 8-bit float is promoted to any wider dtype, and two
    different 8-bit floats are promoted to float32.
    """
    if len({jnp.dtype(dtype) for dtype in dtypes}) == 1:
        return jnp.dtype(dtypes[0])
    wide = [dtype for dtype in dtypes if not is_float8(dtype)] or [jnp.float32]
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(functools.reduce(jnp.promote_types, wide))


def is_float8(dtype: Any) -> bool:
    """Whether this is a dtype of real numbers in 8 bits or less."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize == 1


def compute_dtype(*arrays: Any) -> jnp.dtype:
    """The dtype in which arrays are computed: their common dtype, and float32 at least."""
    dtypes: list[Any] = []
    for x in arrays:
        if x is not None:
            dtypes.append(x.dtype)
    return promote(jnp.float32, *dtypes)


def result_dtype(update: Any, param: Any) -> jnp.dtype:
    """The dtype in which an update is returned: the common dtype of gradient and parameter."""
    return promote(update.dtype) if param is None else promote(update.dtype, param.dtype)


def real_dtype(dtype: Any) -> jnp.dtype:
    """The real dtype of the same precision as a floating or complex dtype."""
    return jnp.dtype(jnp.finfo(dtype).dtype)


def scalar_dtype() -> jnp.dtype:
    """The dtype of scalars that all leaves share: float64 if 64 bits are enabled, else float32."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(np.float64))


def scalar(x: ArrayLike) -> jax.Array:
    """`x` as a strongly typed real array of `scalar_dtype()`; `x` is a scalar, or an array of them."""
    # A `Number` (`numbers.py`) is an array to `jnp.asarray`, and not to functions of `jax.lax`.
    x = x if isinstance(x, jax.Array | float | int) else jnp.asarray(x)
    return jax.lax.convert_element_type(x, scalar_dtype())


def cast_floating(tree: PyTree, dtype: Any) -> PyTree:
    """`tree` with its floating arrays in the precision of `dtype`; complex arrays stay complex."""
    leaves, structure = jax.tree.flatten(tree)
    real = None
    for i, x in enumerate(leaves):
        own = getattr(x, "dtype", None)
        if own is None or own == dtype or not is_inexact_dtype(own):
            continue
        real = real or real_dtype(dtype)
        wide = promote(real, jnp.complex64) if jnp.issubdtype(own, jnp.complexfloating) else real
        if own != wide:
            leaves[i] = jax.lax.convert_element_type(x, wide)
    return structure.unflatten(leaves)


def like(new: PyTree, old: PyTree) -> PyTree:
    """The arrays of `new`, strongly typed, with the dtypes and the varying mesh axes of those in `old`.

    So the state of every step has the types of the state before it, and a second step is not compiled.
    A finite number stays finite: one that is too large for its dtype becomes the largest number of it.
    """
    leaves, structure = jax.tree.flatten(new)
    for i, o in enumerate(structure.flatten_up_to(old)):
        n = leaves[i]
        if getattr(n, "weak_type", True) or n.dtype != o.dtype:
            n = saturated(n, o.dtype)
        leaves[i] = replacing(o, n)
    return structure.unflatten(leaves)


def saturated(x: Any, dtype: Any) -> jax.Array:
    """`cast`, except that finite numbers beyond the largest number of `dtype` become this number.

    A plain cast makes them infinite, or NaN in a dtype without infinities, and a quotient of two such
    accumulators is NaN. Infinite and NaN entries stay infinite or NaN.
    """
    own = getattr(x, "dtype", dtype)
    if own == dtype or not (is_inexact_dtype(own) and is_inexact_dtype(dtype)):
        return cast(x, dtype)
    largest = float(jnp.finfo(dtype).max)
    if largest >= float(jnp.finfo(own).max):
        return cast(x, dtype)
    if jnp.issubdtype(own, jnp.complexfloating):
        if not jnp.issubdtype(dtype, jnp.complexfloating):
            return cast(x, dtype)
        real = real_dtype(dtype)
        return jax.lax.complex(saturated(x.real, real), saturated(x.imag, real))
    limit = jnp.asarray(largest, own)
    return cast(jnp.where(jnp.isfinite(x), jnp.clip(x, -limit, limit), x), dtype)


def returned(x: Any, dtype: Any) -> jax.Array:
    """A real or complex array in the dtype in which it is returned to the user.

    It is rounded as by a plain cast, except that in 8 bits a finite number stays finite: the range of
    these dtypes is short, and some of them have no infinity, so that the cast would return NaN.
    """
    if x.dtype == dtype:
        return x
    return saturated(x, dtype) if is_float8(dtype) else jax.lax.convert_element_type(x, dtype)


def cast(x: Any, dtype: Any) -> jax.Array:
    """`x` as a strongly typed array of this dtype; a random key, which cannot be cast, is unchanged."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return x
    return jax.lax.convert_element_type(x, jnp.dtype(dtype))


def accumulator(
    param: Any, dtype: DTypeLike | None = None, *, real: bool = False, fill: ArrayLike = 0.0
) -> jax.Array:
    """An array in which to accumulate, with the shape and the sharding of a parameter.

    Args:
        param: the parameter. If it is complex, so is the array, unless `real` is True.
        dtype: the dtype of the array. None means the dtype of the parameter, and float32 at least.
        real: whether the array is real also for a complex parameter, as a second moment is.
        fill: the value of every entry.

    Raises:
        TypeError: if `param` is not an array, or if `dtype` is neither floating nor complex.
        ValueError: if `fill` is an array of another shape than the parameter.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.accumulator(jnp.ones(2, jnp.bfloat16))
    Array([0., 0.], dtype=float32)
    """
    if not hasattr(param, "dtype"):
        raise TypeError(f"`accumulator(param)` needs an array, not {described(param)}.")
    try:
        if isinstance(dtype, np.ndarray | jax.Array):
            raise TypeError
        wide = jnp.dtype(promote(param.dtype, jnp.float32) if dtype is None else dtype)
    except (TypeError, ValueError):
        raise TypeError(
            f"`accumulator(dtype=...)` must be a dtype, not {described(dtype)}."
        ) from None
    if not jnp.issubdtype(wide, jnp.inexact):
        raise TypeError(
            f"An average cannot be kept in {wide}: its dtype must be floating or complex."
        )
    if not (isinstance(fill, int | float) or hasattr(fill, "dtype")):
        raise TypeError(f"`accumulator(fill=...)` must be a number, not {described(fill)}.")
    if real:
        wide = real_dtype(wide)
    elif jnp.issubdtype(param.dtype, jnp.complexfloating):
        wide = promote(wide, jnp.complex64)
    if jnp.ndim(fill) and jnp.shape(fill) != jnp.shape(param):
        raise ValueError(
            f"An array of shape {jnp.shape(fill)} cannot be the initial value of an average for a "
            f"parameter of shape {jnp.shape(param)}. Pass one number, or map over the optimizers of a "
            "sweep with `jax.vmap`."
        )
    return jnp.full_like(param, fill, dtype=wide)

"""Adding updates to parameters."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.core import Tracer

from gradtx._core.authors import described
from gradtx._core.dtypes import compute_dtype, is_float8, promote, returned
from gradtx._core.rounding import round_stochastically
from gradtx._core.trees import PyTree, flatten


def apply_updates(
    params: PyTree,
    updates: PyTree,
    rounding: Literal["nearest", "stochastic"] = "nearest",
    key: Any = None,
) -> PyTree:
    r"""The new parameters $\theta + u$, in the dtypes of the old ones.

    Each sum is computed in the common dtype of the parameter and the update, and rounded once. A finite
    sum beyond the range of a float8 parameter becomes the largest number of its dtype. A leaf whose
    update is None (an object that is not an array, a parameter that is not trained) does not change.

    An update that is smaller than half the distance between a bfloat16 parameter and its neighbor is
    lost if the sum is rounded to the nearest number. With `rounding="stochastic"`, the sum is computed
    in float32 at least, and rounded at random to one of its two neighbors, such that the new parameter
    is right on average. This changes nothing where the dtype of a parameter is as wide as that of the
    sum, or where the sum needs no rounding. `master_weights` and `compensated` lose nothing, but need
    memory for a copy or a remainder.

    Args:
        params: a pytree of parameters.
        updates: the updates that an optimizer returned for these parameters.
        rounding: "nearest", or "stochastic" for rounding at random.
        key: a key of `jax.random`, a new one at every step, for `rounding="stochastic"`. Inside
            `shard_map`, fold the index of the device into it if the parameters are sharded. Devices that
            hold the same parameters need the same key.

    Raises:
        ValueError: if the updates differ from the parameters in structure, or an update in shape, if
            `rounding` is an unknown word, or if it is "stochastic" and there is no `key`.
        TypeError: if a leaf that has an update is not an array.

    Source: for stochastic rounding, Gupta et al., 2015, arXiv:1502.02551, section 3.1.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.apply_updates(
    ...     {"w": jnp.ones(2), "step": None}, {"w": jnp.full(2, -0.5), "step": None}
    ... )
    {'step': None, 'w': Array([0.5, 0.5], dtype=float32)}
    """
    if rounding not in ("nearest", "stochastic"):
        raise ValueError(
            f'`apply_updates(rounding={described(rounding)})` must be "nearest" or "stochastic".'
        )
    if rounding == "stochastic" and key is None:
        raise ValueError(
            '`apply_updates(rounding="stochastic")` needs a random key, a new one at every step: '
            "`apply_updates(params, updates, rounding, key=jax.random.fold_in(key, step))`."
        )
    leaves, structure = flatten(params)
    try:
        changes = structure.flatten_up_to(updates)
    except ValueError as error:
        kinds = f"these are a `{type(updates).__name__}` and a `{type(params).__name__}`"
        problem = error if type(updates) is type(params) else kinds
        raise ValueError(
            f"`apply_updates`: the updates do not fit the structure of the parameters: {problem}. Pass "
            "the updates that `update` returned for these parameters."
        ) from None
    pairs = enumerate(zip(leaves, changes, strict=True))
    if rounding == "stochastic":
        return structure.unflatten(
            [_added(p, u, jax.random.fold_in(key, i)) for i, (p, u) in pairs]
        )
    return structure.unflatten([_added(p, u, None) for _, (p, u) in pairs])


def _added(p: object, u: object, key: Any) -> object:
    if p is None or u is None:
        return p
    for x in (p, u):
        if not (hasattr(x, "dtype") or isinstance(x, int | float | complex)):
            raise TypeError(
                f"`apply_updates` needs trees of arrays, and a leaf is {described(x)}. Pass the "
                "parameters and the updates that `update` returned for them."
            )
    param, update = jnp.asarray(p), jnp.asarray(u)
    if param.shape != update.shape:
        raise ValueError(
            f"`apply_updates`: an update has shape {update.shape}, and its parameter {param.shape}."
        )
    if jnp.issubdtype(param.dtype, jnp.bool_):
        return p
    dtype = promote(param.dtype, update.dtype)
    key = key if jnp.issubdtype(param.dtype, jnp.inexact) else None
    dtype = compute_dtype(param, update) if key is not None or is_float8(dtype) else dtype
    total = jax.lax.convert_element_type(param, dtype) + jax.lax.convert_element_type(update, dtype)
    if key is not None:
        return round_stochastically(total, param.dtype, key)
    new = returned(total, param.dtype)
    # If the same program reads the parameter again, XLA may leave out the rounding, and `compensated`
    # would add the remainder of this rounding to a number that was not rounded.
    if isinstance(new, Tracer) and total.dtype != param.dtype:
        return jax.lax.optimization_barrier(new)
    return new

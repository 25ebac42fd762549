"""Adding updates to parameters."""

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype, promote
from gradtx._core.trees import PyTree, flatten


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    r"""The new parameters $\theta + u$, in the dtypes of the old ones.

    Each sum is computed in the common dtype of the parameter and the update, and rounded once. A leaf
    whose update is None (an object that is not an array, a parameter that is not trained) does not
    change.

    Args:
        params: a pytree of parameters.
        updates: the updates that an optimizer returned for these parameters.

    Raises:
        ValueError: if the updates differ from the parameters in structure, or an update in shape.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.apply_updates(
    ...     {"w": jnp.ones(2), "step": None}, {"w": jnp.full(2, -0.5), "step": None}
    ... )
    {'step': None, 'w': Array([0.5, 0.5], dtype=float32)}
    """
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
    return structure.unflatten([_added(p, u) for p, u in zip(leaves, changes, strict=True)])


def _added(p: object, u: object) -> object:
    if p is None or u is None:
        return p
    param, update = jnp.asarray(p), jnp.asarray(u)
    if param.shape != update.shape:
        raise ValueError(
            f"`apply_updates`: an update has shape {update.shape}, and its parameter {param.shape}."
        )
    if jnp.issubdtype(param.dtype, jnp.bool_):
        return p
    dtype = promote(param.dtype, update.dtype)
    dtype = compute_dtype(param, update) if dtype.itemsize == 1 else dtype
    total = jax.lax.convert_element_type(param, dtype) + jax.lax.convert_element_type(update, dtype)
    return jax.lax.convert_element_type(total, param.dtype)

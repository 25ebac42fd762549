"""The scale of the loss that an optimizer with `dynamic_loss_scale` asks for."""

from typing import Any

import jax

from gradtx._core.trees import PyTree, unboxed
from gradtx._wrappers.loss_scale import LossScaleState


def loss_scale_of(state: PyTree) -> Any:
    """The number by which the loss is to be multiplied, or None if the optimizer does not scale it.

    Args:
        state: the state of an optimizer, or something that has it as `opt_state`.
    """
    state = unboxed(getattr(state, "opt_state", state))
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, LossScaleState))
    return next((x.loss_scale for x in nodes if isinstance(x, LossScaleState)), None)


def scaled(value: jax.Array, scale: Any) -> jax.Array:
    """A loss, multiplied by its scale unless that is None."""
    return value if scale is None else value.astype(scale.dtype) * scale

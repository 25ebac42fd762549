"""Optax's transformations among ours."""

from typing import Any

import jax
import optax

from gradtx._core.dtypes import like
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree


class foreign(Transform):
    """Any Optax transformation, as a link or branch of ours, which makes it by itself.

    Args:
        tx: an `optax.GradientTransformation`. It runs under standard dtype promotion, and its state
            keeps the dtypes that it starts with.
    """

    tx: Any

    def init_tree(self, params: PyTree) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return self.tx.init(params)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        update = optax.with_extra_args_support(self.tx).update
        with jax.numpy_dtype_promotion("standard"):
            updates, new = update(updates, state, params, **extra)
        return updates, like(new, state) if jax.tree.structure(new) == jax.tree.structure(
            state
        ) else new


def as_transform(x: Any, where: str) -> Transform:
    """`x` as one of ours; `where` names the argument in the error."""
    if isinstance(x, Transform):
        return x
    if isinstance(x, optax.GradientTransformation):
        return foreign(x)
    raise TypeError(f"`{where}` must be gradient transformations, not {x!r}.")

"""Optax's transformations among gradtx's: a field that takes transformations takes both."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from gradtx._core import boundary
from gradtx._core.authors import described
from gradtx._core.dtypes import like
from gradtx._core.latex import Page, Tex, call
from gradtx._core.static import frozendict
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper, mentions


class foreign(Transform):
    """Any Optax transformation, as a link or branch of gradtx's.

    A field that takes transformations makes it by itself.

    Args:
        tx: an `optax.GradientTransformation`. It runs under standard dtype promotion, and its state
            keeps the dtypes that it starts with.
    """

    tx: Any
    linear = True
    is_foreign = True

    def init_tree(self, params: PyTree) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return jax.tree.map(_as_array, self.tx.init(params))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        update = optax.with_extra_args_support(self.tx).update
        with jax.numpy_dtype_promotion("standard"):
            updates, new = update(updates, state, params, **extra)
        same = jax.tree.structure(new) == jax.tree.structure(state)
        return updates, like(new, state) if same else new

    def tex(self, g: Tex, page: Page) -> Tex:
        return call(self.tx.init.__qualname__.split(".")[0], g)


def _as_array(x: Any) -> Any:
    return boundary.strong(x) if isinstance(x, bool | int | float | complex) else x


def as_transform(x: Any, where: str) -> Transform:
    """`x` as one of gradtx's; `where` names the argument in the error."""
    if isinstance(x, Transform):
        return x
    if isinstance(x, optax.GradientTransformation):
        return foreign(x)
    raise TypeError(
        f"`{where}` must be a gradient transformation, gradtx's or Optax's, not {described(x)}."
    )


def adopted(value: Any, hint: Any, where: str) -> Any:
    """The value of a field that takes transformations, Optax's as `foreign` ones."""
    if isinstance(value, optax.GradientTransformation):
        return as_transform(value, where)
    if isinstance(value, Mapping) and mentions(hint, Mapping):
        groups = {k: as_transform(x, f"{where[:-4]}{{{k!r}: ...}})") for k, x in value.items()}
        return frozendict(groups)
    if type(value) in (tuple, list) and mentions(hint, tuple):
        numbers = mentions(hint, Hyper)
        return tuple(x if numbers and _is_number(x) else adopted(x, None, where) for x in value)
    if value is None and mentions(hint, type(None)):
        return None
    return as_transform(value, where)


def _is_number(x: Any) -> bool:
    return not isinstance(x, optax.GradientTransformation)


# `Transform` calls it for each field that takes transformations.
Transform._adopt = staticmethod(adopted)

"""Optax's transformations inside gradtx's: `foreign`, and the fields that accept both libraries'."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import optax

from gradtx._core import boundary
from gradtx._core.authors import described
from gradtx._core.dtypes import like
from gradtx._core.latex import Page, Tex
from gradtx._core.static import frozendict, show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper, mentions


class foreign(Transform):
    """An Optax transformation as a transformation of gradtx.

    Every field that takes a transformation converts Optax's transformations by itself, so `foreign` is
    rarely written out. `tx` runs under standard dtype promotion. The arrays of its state keep the dtypes
    that `init` gives them.

    Args:
        tx: an `optax.GradientTransformation`.

    Raises:
        TypeError: if `tx` is not one.
    """

    tx: optax.GradientTransformation

    linear = True
    is_foreign = True

    def _shown(self, name: str, value: Any) -> str:
        # The functions of an Optax transformation have no names that Python could find again.
        return re.sub(r"<function ([\w.<>]+) at 0x\w+>", r"\1", show(value))

    def validate(self) -> None:
        if not isinstance(self.tx, optax.GradientTransformation):
            raise TypeError(
                f"`foreign(tx=...)` must be an `optax.GradientTransformation`, not {described(self.tx)}."
            )

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
        words = r"\text{: the transformation of Optax that has this name}"
        return page.function(self.origin, words, g)

    @property
    def origin(self) -> str:
        """The name of the function that made the transformation."""
        names = [f.__qualname__.split(".")[0] for f in (self.tx.update, self.tx.init)]  # pyright: ignore
        return names[names[0] == "with_extra_args_support"]


def _as_array(x: Any) -> Any:
    return boundary.strong(x) if isinstance(x, bool | int | float | complex) else x


def as_transform(x: Any, where: str) -> Transform:
    """`x` as a transformation of gradtx.

    Args:
        x: a transformation of gradtx or of Optax.
        where: the name of the argument that `x` was passed as, for the error.

    Raises:
        TypeError: if `x` is not a transformation.
    """
    if isinstance(x, Transform):
        return x
    if isinstance(x, optax.GradientTransformation):
        return foreign(x)
    raise TypeError(
        f"`{where}` must be a gradient transformation of gradtx or of Optax, not {described(x)}."
    )


def adopted(value: Any, hint: Any, where: str) -> Any:
    """The content of a field that takes transformations; those of Optax are wrapped in `foreign`."""
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


# The annotation of a field that takes a transformation of gradtx's or Optax's and holds one of gradtx's.
# A type checker learns both types from the two methods. It does not know the class of what the field
# holds, so the base `Any` makes it accept every attribute of that class.
if TYPE_CHECKING:

    class Inside(Transform, Any):
        """A transformation inside another one."""

    class AsTransform:
        def __get__(self, instance: Any, owner: Any = None) -> Inside: ...
        def __set__(self, instance: Any, value: optax.GradientTransformation) -> None: ...
else:
    Inside = AsTransform = Transform

# `Transform` calls this function for each field that takes transformations.
Transform._adopt = staticmethod(adopted)

"""`Recipe`: an optimizer as the composition that it names."""

from typing import Any

import jax
import numpy as np

from gradtx._compose.rules import as_rule
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree


class Recipe(Transform):
    """An optimizer with a definition: fields, and an `expand()` that returns what they stand for.

    >>> import gradtx
    >>> class signsgd(gradtx.Recipe):
    ...     learning_rate: gradtx.Hyper = 0.1
    ...
    ...     def expand(self):
    ...         rate = gradtx.scale_by_learning_rate(self.learning_rate)
    ...         return gradtx.chain(gradtx.scale_by_sign(), rate)
    >>> gradtx.summarize(signsgd(0.2))
    signsgd(learning_rate=0.2)
    └── chain
        ├── scale_by_sign
        └── scale_by_learning_rate(0.2)
    """

    def __post_init__(self) -> None:
        mask = getattr(self, "mask", None)
        leaves = jax.tree.leaves(mask)
        if leaves and all(isinstance(x, bool | np.bool_) for x in leaves):
            # Before a tree of bools is frozen like any other mapping.
            object.__setattr__(self, "mask", as_rule(mask))
        super().__post_init__()

    def expand(self) -> Transform:
        """The composition that this recipe names."""
        raise TypeError(f"`{type(self).__name__}` defines no `expand`.")

    def validate(self) -> None:
        # Its parts know which values are legal; the message says whose they were.
        try:
            self._expanded  # noqa: B018 - for what it raises
        except (ValueError, TypeError) as error:
            raise type(error)(f"In `{self!r}`: {error}") from None

    @property
    def _expanded(self) -> Transform:
        # Kept beside the fields, not among them: neither compared, nor copied, nor pickled.
        if "_definition" not in self.__dict__:
            object.__setattr__(self, "_definition", self.expand())
        return self.__dict__["_definition"]

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return self._expanded.needs_params

    def working(self) -> Any:
        return self._expanded.working()

    def init_tree(self, params: PyTree) -> Any:
        return self.working().init_tree(params)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        return self.working().update_tree(updates, state, params, extra)

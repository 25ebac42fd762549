"""Freezing: leaves whose updates are zero, so that they stay unchanged."""

from typing import Any

import jax

from gradtx._compose.labels import as_mask, rule_name
from gradtx._compose.partition import masked
from gradtx._core.latex import OTHERWISE, Page, Tex, cases, if_rule
from gradtx._core.lowering import Lowering
from gradtx._core.numerics import filled_like
from gradtx._core.terms import Stream
from gradtx._core.unit import Elementwise


class freeze(Elementwise):
    """Frozen leaves get an update of zero and stay unchanged.

    $$ u = -0 $$

    Adding -0 leaves every number bitwise unchanged, also -0 itself.

    Args:
        mask: which leaves to freeze: a rule `(path, leaf) -> bool`, a tree of bools, or a function from
            the parameters to such a tree. The updates of other leaves pass through. None means all
            leaves.

    Raises:
        ValueError: if the structure of `mask` does not fit the parameters.
        TypeError: if `mask` gives a string for a leaf.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.freeze().update(jnp.ones(2), ())[0]
    Array([-0., -0.], dtype=float32)
    """

    mask: Any = None
    linear = True

    @property
    def ignores_updates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.mask is None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_mask(self.mask))
        super().__post_init__()

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return filled_like(update, -0.0), state

    @property
    def effect(self) -> str:
        """What `routing` says about the leaves that reach this transformation."""
        return "frozen" if self.mask is None else ""

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if self.mask is None:
            return super().lower(low, stream)
        return low.lower(masked(freeze(), self.mask), stream)

    def tex(self, g: Tex, page: Page) -> Tex:
        zero = Tex("0")
        if self.mask is None:
            return zero
        return cases((zero, if_rule(rule_name(self.mask))), (g, OTHERWISE))

"""Leaves that stay as they are."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.partition import masked
from gradtx._compose.rules import as_mask, rule_name
from gradtx._core.latex import Page, Tex, cases
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.unit import Elementwise


class freeze(Elementwise):
    """Leaves that stay as they are: $u = -0$, which leaves every number bitwise untouched, no state.

    Args:
        mask: which leaves to freeze, as in `masked`; the others pass through. By default all.

    Raises `ValueError` for a mask that does not fit, `TypeError` for one that says words.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.freeze().update(jnp.ones(2), ())[0]
    Array([-0., -0.], dtype=float32)
    """

    mask: Any = None
    linear = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_mask(self.mask))
        super().__post_init__()

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return jnp.full_like(update, -0.0), state

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if self.mask is None:
            return super().lower(low, stream)
        return low.lower(masked(freeze(), self.mask), stream)

    def tex(self, g: Tex, page: Page) -> Tex:
        zero = Tex("0")
        return zero if self.mask is None else cases((zero, rule_name(self.mask)), (g, "otherwise"))

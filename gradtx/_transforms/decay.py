"""Weight decay, which adds a multiple of the parameters to the updates."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.labels import as_mask, rule_name
from gradtx._compose.partition import masked
from gradtx._core.latex import THETA, Page, Tex, plus, times
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class decoupled_weight_decay(Elementwise):
    r"""Weight decay adds a multiple of the parameters to the updates.

    $$ u = g + \lambda\, \theta $$

    Its place in a chain decides what it does. Between the preconditioner and the learning rate it is
    the decoupled decay of AdamW, multiplied by the learning rate. At the start of a chain it is an L2
    penalty.

    Args:
        weight_decay: $\lambda \ge 0$, a number, a schedule, or an array under `vmap`.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        cautious: whether an entry decays only if the update does not move it away from zero, which is
            the case where $g\, \theta \ge 0$ (Chen et al., 2025, arXiv:2510.12402).

    Raises:
        ValueError: if `weight_decay` is negative, if `mask` does not fit the parameters, or if `update`
            is called without the parameters.
        TypeError: if `mask` gives a string for a leaf.

    Source: Loshchilov & Hutter, 2017, arXiv:1711.05101.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.decoupled_weight_decay(0.1, mask=gradtx.by_rank(2))
    >>> params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    >>> tx.update({"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)}, tx.init(params), params)[0]
    {'bias': Array([0.], dtype=float32), 'kernel': Array([[0.1]], dtype=float32)}
    """

    weight_decay: Hyper
    mask: Any = None
    cautious: bool = False
    limits = {"weight_decay": "[0, inf)"}
    linear = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_mask(self.mask))
        super().__post_init__()

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if _is_zero(self.weight_decay):
            return update, state
        decay = self.weight_decay * param
        if self.cautious:
            decay = jnp.where((update.conj() * param).real >= 0, decay, jnp.zeros_like(decay))
        return update + decay, state

    @property
    def effect(self) -> str:
        """What `routing` says about the leaves that reach this transformation."""
        return "decays" if self.mask is None and not _is_zero(self.weight_decay) else ""

    @property
    def keeps_zero(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _is_zero(self.weight_decay)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if self.mask is None:
            return super().lower(low, stream)
        return low.lower(masked(self._with(mask=None), self.mask), stream)

    def tex(self, g: Tex, page: Page) -> Tex:
        if _is_zero(self.weight_decay):
            return g
        decay = times(page.number(self.weight_decay, r"\lambda"), THETA)
        if self.mask is not None:
            decay = times(decay, page.where(rf"\mathrm{{{rule_name(self.mask)}}}"))
        if self.cautious:
            g = page.symbol(g)
            decay = times(decay, page.where(rf"{g.text}\, {THETA.text} \geq 0"))
        return plus(g, decay)


def _is_zero(rate: Any) -> bool:
    # This is decided when the step is traced, and not in the step, so that `adamw(weight_decay=0.0)`
    # does not read the parameters.
    return isinstance(rate, float) and rate == 0

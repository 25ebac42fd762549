"""Weight decay: the parameters' own part in the update."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.rules import as_rule, mask_leaves
from gradtx._core.elementwise import Elementwise
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper


class decoupled_weight_decay(Elementwise):
    r"""The parameters times a rate, added to the updates: $u = g + \lambda\, \theta$.

    Where it stands in a chain decides what it is. After the preconditioner and before the learning
    rate it is AdamW's decay (decoupled, times the rate); before everything it is an L2 penalty.

    Args:
        weight_decay: $\lambda \ge 0$, a number, an array or a schedule.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from
            the parameters to one, as in Optax. By default all.
        cautious: decay only entries that the update shrinks anyway, where $g\, \theta \ge 0$ (Chen et
            al., 2025, arXiv:2510.12402).

    Raises `ValueError` without parameters or for a negative rate. Source: Loshchilov & Hutter, 2017,
    arXiv:1711.05101.

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
    needs_params = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_rule(self.mask))
        super().__post_init__()

    def marks(self, params: PyTree) -> list[Any] | None:
        return (
            None if self.mask is None else mask_leaves(self.mask, params, "decoupled_weight_decay")
        )

    def marked(self, mark: Any) -> Elementwise:
        return self._with(mask=None if mark else False)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        decays = self.mask is not False and not _is_zero(self.weight_decay)
        if not decays:
            return update, state
        decay = self.weight_decay * param
        if self.cautious:
            decay = jnp.where((update.conj() * param).real >= 0, decay, jnp.zeros_like(decay))
        return update + decay, state


def _is_zero(rate: Any) -> bool:
    # Read off at trace time: `adamw(weight_decay=0.0)` does not touch the parameters at all.
    return isinstance(rate, float) and rate == 0

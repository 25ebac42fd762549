"""Updates in units of the parameters, entry by entry."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import THETA, Page, Tex, plus, times
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class scale_by_param_size(Elementwise):
    r"""Every entry is multiplied by the absolute value of its parameter, plus a constant.

    $$ u = (|\theta| + \eta)\, g $$

    `scale_by_param_block_norm` multiplies by the norm of a whole leaf instead.

    Args:
        offset: $\eta \ge 0$, which keeps entries moving whose parameters are 0.

    Raises:
        ValueError: if `offset` is negative, or if `update` is called without the parameters.

    Source: Kwon et al., 2021, arXiv:2102.11600 (the size of a step of adaptive SAM).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.scale_by_param_size(), jnp.array([-3.0, 0.0])
    >>> tx.update(jnp.ones(2), tx.init(params), params)[0]
    Array([3., 0.], dtype=float32)
    """

    offset: Hyper = 0.0
    limits = {"offset": "[0, inf)"}
    linear = True
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return (jnp.abs(param) + self.offset).astype(update.dtype) * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        offset = page.number(self.offset, r"\eta")
        return times(plus(Tex(rf"\left|{THETA.text}\right|"), offset), g)

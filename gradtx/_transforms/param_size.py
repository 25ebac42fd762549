"""Updates in units of the parameters, entry by entry."""

from typing import Any

import optax

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.parameters import absolute, parameters


class scale_by_param_size(Recipe):
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

    def state(self) -> Any:
        return optax.ScaleByScheduleState if callable(self.offset) else None

    def expand(self) -> Transform:
        return identity() * (chain(parameters(), absolute()) + self.offset)

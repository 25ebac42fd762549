"""The parameters as an update, and absolute values, for products with what depends on the parameters.

weight decay      g + parameters() * 0.1
the size of g     identity() * fanout("maximum", chain(parameters(), block_norm(rms=True)), 1e-3)
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import THETA, Page, Tex
from gradtx._core.unit import Elementwise


class parameters(Elementwise):
    r"""Every entry of the update is its parameter, whatever the gradient is.

    $$ u = \theta $$

    Raises:
        ValueError: if `update` is called without the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.identity() + gradtx.parameters() * 0.1, jnp.array([10.0, 0.0])
    >>> tx.update(jnp.ones(2), tx.init(w), w)[0]
    Array([2., 1.], dtype=float32)
    """

    linear = True
    ignores_updates = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return param.astype(update.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return THETA


class absolute(Elementwise):
    r"""Every entry of the update is replaced by its absolute value, which is real.

    $$ u = |g| $$

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.absolute().update(jnp.array([0.5, -3.0]), ())[0]
    Array([0.5, 3. ], dtype=float32)
    """

    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return jnp.abs(update), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return Tex(rf"\left|{g.text}\right|")

"""Gradient centralization: the mean of every neuron's gradient is subtracted."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import Page, Tex, plus
from gradtx._core.unit import Elementwise


class centralize(Elementwise):
    r"""The mean is subtracted from the gradients of each row of an array with two or more axes.

    $$ u = g - \operatorname{mean}(g) $$

    The mean is taken over all axes but `axis`. Arrays with one axis and scalars pass unchanged.

    Args:
        axis: the axis whose entries keep a mean of their own. The paper takes the axis of the outputs,
            which is the last one, -1, of a kernel in JAX. The default is that of Optax, the first one.

    Raises:
        ValueError: if an array with two or more axes does not have this axis.

    Source: Yong et al., 2020, arXiv:2004.01461, eq. 1.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.centralize().update(jnp.array([[1.0, 3.0], [5.0, 5.0]]), ())[0]
    Array([[-1.,  1.],
           [ 0.,  0.]], dtype=float32)
    """

    axis: int = 0
    linear = True
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if update.ndim < 2 or not update.size:
            return update, state
        if not -update.ndim <= self.axis < update.ndim:
            raise ValueError(
                f"`centralize(axis={self.axis})`: an array of shape {update.shape} does not have this "
                "axis. Pass 0 or -1, or leave this array out with `masked`."
            )
        kept = self.axis % update.ndim
        axes = tuple(i for i in range(update.ndim) if i != kept)
        # Every entry is divided before the sum, because a sum of finite entries may overflow.
        number = update.size // update.shape[kept]
        return update - jnp.sum(update / number, axes, keepdims=True), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        words = (
            r"\text{: the mean over all axes but one, and 0 for arrays with fewer than two axes}"
        )
        return plus(g, page.function("rowmean", words, g), "-")

"""Caution: only what agrees with the gradient at hand."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.unit import Elementwise


class cautious(Wrapper, Elementwise):
    r"""The entries of an update that agree with the gradient, enlarged to make up for the others.

    $$ u = f(g) \odot \phi / \max(\operatorname{mean} \phi, 10^{-3}), \qquad
       \phi = [f(g) \odot g > 0] $$

    with the mean over a leaf. `inner` has to point the way the gradient does: put the learning rate
    outside, `chain(cautious(m), scale_by_learning_rate(lr))`. Complex entries agree where the real
    part of $\bar f g$ is positive. Raises `TypeError` if `inner` is not a transformation. Source: Liang
    et al., 2024, arXiv:2411.16085.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cautious(gradtx.scale_by_momentum(0.5, form="heavy_ball"))
    >>> _, state = tx.update(jnp.array([4.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, -1.0]), state)[0]  # the momentum is 3 and 1; the second turned
    Array([6., 0.], dtype=float32)
    """

    linear = as_inner

    def update_leaf(self, update: jax.Array, state: Any, param: Any, given: jax.Array) -> Any:
        # The signs, not the product, which vanishes for small numbers.
        agrees = (jnp.sign(update) * jnp.sign(given).conj()).real > 0
        real = jnp.finfo(update.dtype).dtype
        share = jnp.mean(agrees, dtype=real) if update.size else jnp.ones((), real)
        # A NaN agrees with nothing and is not to be hidden.
        kept = jnp.where(agrees | jnp.isnan(update), update, jnp.zeros((), update.dtype))
        return kept / jnp.maximum(share, 1e-3).astype(update.dtype), state

"""Caution: only what agrees with the gradient at hand."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype
from gradtx._core.foreign import as_transform
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, tree_map


class cautious(Transform):
    r"""The entries of an update that agree with the gradient, enlarged to make up for the others.

    $$ u = f(g) \odot \phi / \max(\operatorname{mean} \phi, 10^{-3}), \qquad
       \phi = [f(g) \odot g > 0] $$

    with the mean over a leaf. `inner` has to point the way the gradient does: put the learning rate
    outside, `chain(cautious(m), scale_by_learning_rate(lr))`. Complex entries agree where the real
    part of $\bar f g$ is positive. Raises `TypeError` if `inner` is no transformation. Source: Liang et
    al., 2024, arXiv:2411.16085.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.cautious(gradtx.scale_by_momentum(0.5, form="heavy_ball"))
    >>> _, state = tx.update(jnp.array([4.0, 4.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([1.0, -1.0]), state)[0]  # the momentum is 3 and 1; the second turned
    Array([6., 0.], dtype=float32)
    """

    inner: Transform

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", as_transform(self.inner, "cautious(inner)"))
        super().__post_init__()

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return self.inner.needs_params

    def init_tree(self, params: PyTree) -> Any:
        return self.inner.init_tree(params)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        new, state = self.inner.update_tree(updates, state, params, extra)
        return tree_map(_agreeing, new, updates), state


def _agreeing(u: jax.Array, g: jax.Array) -> jax.Array:
    # The signs, not the product, which vanishes for small numbers.
    g = g.astype(compute_dtype(u, g))
    agrees = (jnp.sign(u) * jnp.sign(g).conj()).real > 0
    share = jnp.mean(agrees, dtype=jnp.finfo(u.dtype).dtype) if u.size else jnp.ones((), u.dtype)
    # A NaN agrees with nothing and is not to be hidden.
    kept = jnp.where(agrees | jnp.isnan(u), u, jnp.zeros((), u.dtype))
    return kept / jnp.maximum(share, 1e-3).astype(u.dtype)

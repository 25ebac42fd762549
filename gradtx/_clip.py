"""Clipping: bounds on single entries and on norms."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._elementwise import Elementwise
from gradtx._scale import scale
from gradtx._tree import PyTree, global_norm
from gradtx._value import Hyper


class clip(Elementwise):
    r"""Every entry limited: $u = \min(\max(g, -\delta), \delta)$; a complex one by its absolute value."""

    max_delta: Hyper
    limits = {"max_delta": "[0, inf)"}

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if jnp.iscomplexobj(update):
            return update * _shrink(jnp.abs(update), self.max_delta), state
        return jnp.clip(update, -self.max_delta, self.max_delta), state


class clip_by_global_norm(Elementwise):
    r"""All leaves together shrunk to a norm: $u = g \min(1, c / \|g\|)$, with $\|g\|$ over the tree.

    Args:
        max_norm: $c \ge 0$, a number, an array or a schedule.

    The norm is reduced in float32 at least and does not overflow. A gradient that is not finite makes
    all updates NaN, so that it shows. Source: Pascanu et al., 2012, arXiv:1211.5063.
    """

    max_norm: Hyper
    limits = {"max_norm": "[0, inf)"}
    looks = True

    def look(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        return global_norm(updates)

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        return shared, scale(_shrink(look, self.max_norm))


def _shrink(norm: jax.Array, limit: Any) -> jax.Array:
    """The factor that brings `norm` down to `limit`; NaN if the norm is not finite."""
    above = norm > limit
    factor = limit / jnp.where(above, norm, jnp.ones_like(norm))
    return jnp.where(above | jnp.isnan(norm), jnp.where(jnp.isfinite(norm), factor, jnp.nan), 1.0)

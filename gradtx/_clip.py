"""Clipping: bounds on single entries and on norms."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._elementwise import Elementwise
from gradtx._tree import PyTree, norm_parts, usable
from gradtx._value import Hyper


class clip(Elementwise):
    r"""Every entry limited: $u = \min(\max(g, -\delta), \delta)$; a complex one by its absolute value."""

    max_delta: Hyper
    limits = {"max_delta": "[0, inf)"}

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if jnp.iscomplexobj(update):
            # By the larger part first, since the absolute value of a finite number may be infinite.
            unit = usable(jnp.maximum(jnp.abs(update.real), jnp.abs(update.imag)))
            shrink, unit = _shrink(unit, jnp.abs(update / unit), self.max_delta)
            return update / unit * shrink, state
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
        return norm_parts(updates)

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        return shared, shrunk(*_shrink(*look, self.max_norm))


class shrunk(Elementwise):
    """`clip_by_global_norm` at one step: $u = g / a \\cdot c$, where $c / a$ alone could vanish."""

    factor: Hyper
    unit: Hyper

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return update / self.unit * self.factor, state


def _shrink(unit: jax.Array, ratio: jax.Array, limit: Any) -> tuple[jax.Array, jax.Array]:
    """What to multiply and to divide by to bring the norm `unit * ratio` down to `limit`; the factor is
    NaN if the norm is not finite."""
    limit = jax.lax.convert_element_type(limit, unit.dtype)
    one = jnp.ones_like(ratio)
    above = ratio > limit / unit
    factor = jnp.where(above, limit / jnp.where(above, ratio, one), one)
    factor = jnp.where(jnp.isfinite(ratio), factor, jnp.full_like(ratio, jnp.nan))
    return factor, jnp.where(above, unit, jnp.ones_like(unit))

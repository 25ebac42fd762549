"""Updates that are scaled by the norm or the root mean square of the parameters."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._core.latex import THETA, Page, Tex, fraction, plus, times
from gradtx._core.numerics import norm_parts
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._transforms.block_norms import block_norm, leaf_norm, norm_of
from gradtx._transforms.parameters import parameters


class scale_by_trust_ratio(Elementwise):
    r"""Every leaf is scaled to a multiple of the norm of its parameters.

    $$ u = \tau\, \frac{\phi(\|\theta\|)}{\max(\|g\|, c) + \epsilon}\, g, \qquad
       \phi(x) = \min(\max(x, c), C) $$

    Where a norm in this quotient is 0, the leaf is unchanged: $u = g$.

    Args:
        min_norm: $c \ge 0$, which replaces smaller norms of the parameters and of the update.
        trust_coefficient: $\tau \ge 0$.
        eps: $\epsilon \ge 0$.
        max_norm: $C \ge 0$, which replaces larger norms of the parameters. None means no bound.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    This and every other number may be a schedule, or an array under `vmap`. A leaf whose gradient is not
    finite becomes NaN.

    Raises:
        ValueError: if a number is negative, or if `update` is called without the parameters.

    Sources: You et al., 2017, arXiv:1708.03888 (LARS); You et al., 2019, arXiv:1904.00962 (LAMB).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.scale_by_trust_ratio(), jnp.array([3.0, 4.0])
    >>> tx.update(jnp.array([0.0, 1e-3]), tx.init(w), w)[0]  # as long as the parameters
    Array([0., 5.], dtype=float32)
    """

    min_norm: Hyper = 0.0
    trust_coefficient: Hyper = 1.0
    eps: Hyper = 0.0
    max_norm: Hyper | None = None
    axis_name: Hashable | None = None
    limits = dict.fromkeys(("min_norm", "trust_coefficient", "eps", "max_norm"), "[0, inf)")
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        unit, ratio = norm_parts(update, self.axis_name)
        least = jnp.asarray(self.min_norm).astype(unit.dtype)
        weights = jnp.maximum(norm_of(param, self.axis_name).astype(unit.dtype), least)
        if self.max_norm is not None:
            weights = jnp.minimum(weights, jnp.asarray(self.max_norm).astype(unit.dtype))
        # The update is divided by `unit` first, since its norm may overflow.
        size = jnp.maximum(ratio, least / unit)
        kept = (weights == 0) | (size == 0)
        divisor = size + jnp.asarray(self.eps).astype(unit.dtype) / unit
        factor = self.trust_coefficient * weights / jnp.where(kept, jnp.ones_like(size), divisor)
        factor = jnp.where(kept, jnp.ones_like(factor), factor)
        return update / jnp.where(kept, jnp.ones_like(unit), unit) * factor, state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        weights, size = leaf_norm(THETA, page), leaf_norm(g, page)
        least, eps = page.number(self.min_norm), page.number(self.eps, r"\epsilon")
        if least.text != "0":
            weights, size = (
                Tex(rf"\max\left({x.text}, {least.text}\right)") for x in (weights, size)
            )
        if self.max_norm is not None:
            most = page.number(self.max_norm, "C").text
            weights = Tex(rf"\min\left({weights.text}, {most}\right)")
        ratio = fraction(weights, plus(size, eps))
        return times(times(page.number(self.trust_coefficient, r"\tau"), ratio), g)


class scale_by_param_block_norm(Recipe):
    r"""Every leaf is multiplied by the norm of its parameters.

    $$ u = \max(\|\theta\|, c)\, g $$

    Args:
        min_scale: $c \ge 0$, which replaces smaller norms.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    Raises:
        ValueError: if `min_scale` is negative, or if `update` is called without the parameters.

    Source: Bernstein et al., 2020, arXiv:2002.03432.
    """

    min_scale: Hyper = 1e-3
    axis_name: Hashable | None = None
    limits = {"min_scale": "[0, inf)"}

    def state(self) -> Any:
        return optax.ScaleByScheduleState if callable(self.min_scale) else None

    def expand(self) -> Transform:
        return _by_size(self, rms=False)


class scale_by_param_block_rms(Recipe):
    r"""Every leaf is multiplied by the root mean square of its parameters.

    $$ u = \max(\operatorname{rms}(\theta), c)\, g $$

    Args:
        min_scale: $c \ge 0$, which replaces smaller root mean squares.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the root mean square of what it holds.

    Raises:
        ValueError: if `min_scale` is negative, or if `update` is called without the parameters.

    Source: Shazeer & Stern, 2018, arXiv:1804.04235, section 8 (Adafactor).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.scale_by_param_block_rms(), jnp.array([1.0, -7.0])
    >>> tx.update(jnp.array([1.0, 0.5]), tx.init(w), w)[0]
    Array([5. , 2.5], dtype=float32)
    """

    min_scale: Hyper = 1e-3
    axis_name: Hashable | None = None
    limits = {"min_scale": "[0, inf)"}

    def state(self) -> Any:
        return optax.ScaleByScheduleState if callable(self.min_scale) else None

    def expand(self) -> Transform:
        return _by_size(self, rms=True)


def _by_size(recipe: Any, *, rms: bool) -> Transform:
    size = chain(parameters(), block_norm(rms, recipe.axis_name))
    return identity() * fanout("maximum", size, recipe.min_scale)

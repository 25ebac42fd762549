"""Updates divided by the norm of the whole tree."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.recipe import Recipe
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.numerics import norm_parts
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class normalize_by_update_norm(Elementwise):
    r"""All updates are divided by the norm of the whole tree, so that together they have a given norm.

    $$ u = c\, g / (\|g\| + \epsilon) $$

    If all updates are 0, they stay 0. A NaN in one gradient makes all updates NaN. An infinite entry
    becomes NaN, so that it is not hidden, and all finite entries become 0.

    Args:
        scale_factor: $c$, the norm of the result.
        eps: $\epsilon \ge 0$.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    Raises:
        ValueError: if `eps` is negative.

    Source: Hazan, Levy & Shalev-Shwartz, 2015, arXiv:1507.02030, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.normalize_by_update_norm(eps=0.0)
    >>> tx.update(jnp.array([30.0, 40.0]), ())[0]
    Array([0.6, 0.8], dtype=float32)
    """

    scale_factor: Hyper = 1.0
    eps: Hyper = 1e-6
    axis_name: Hashable | None = None
    limits = {"scale_factor": "(-inf, inf)", "eps": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        return norm_parts(updates, self.axis_name)

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        # The norm has two factors, because their product may overflow where every update is finite.
        unit, ratio = measured
        size = ratio + jnp.asarray(self.eps).astype(unit.dtype) / unit
        return state, (1 / unit, jnp.where(size == 0, jnp.ones_like(size), size))

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, parts: Any
    ) -> tuple[jax.Array, Any]:
        inverse, size = parts
        return self.scale_factor * (update * inverse / size), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        norm = page.norm(g, "", r"\text{: the norm of all arrays together}")
        size = plus(norm, page.number(self.eps, r"\epsilon"))
        return times(page.number(self.scale_factor), fraction(g, size))


class normalize(Recipe):
    r"""All updates are divided by the norm of the whole tree.

    $$ u = g / \|g\| $$

    If all updates are 0, they stay 0. This is `normalize_by_update_norm` without an epsilon.

    Source: Hazan, Levy & Shalev-Shwartz, 2015, arXiv:1507.02030, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.normalize().update({"a": jnp.array([3.0]), "b": jnp.array([-4.0])}, ())[0]
    {'a': Array([0.6], dtype=float32), 'b': Array([-0.8], dtype=float32)}
    """

    def expand(self) -> Transform:
        return normalize_by_update_norm(eps=0.0)

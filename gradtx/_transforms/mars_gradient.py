"""The gradient of MARS, whose variance is reduced by the gradient of the step before."""

from collections.abc import Hashable

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.lifted import lifted
from gradtx._transforms.block_norms import clip_by_block_norm
from gradtx._transforms.previous import difference
from gradtx._transforms.scale import scale


class mars_gradient(Recipe):
    r"""MARS adds a multiple of the change of the gradient, and clips the norm of every leaf.

    $$ c_t = g_t + \gamma\, \frac{b}{1 - b}\, (g_t - g_{t-1}), \qquad
       u_t = c_t / \max(1, \|c_t\| / C) $$

    It stands before any optimizer: `chain(mars_gradient(), lion(1e-4))`.

    Args:
        b1: $b$, the decay of the momentum that follows, in [0, 1).
        gamma: $\gamma \ge 0$.
        max_norm: $C \ge 0$, the largest norm of a leaf. None means no clipping.
        from_zero: whether $g_0 = 0$, as in the authors' code. Otherwise $g_0 = g_1$, so that the first
            step adds nothing.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    This and every other number may be a schedule, or an array under `vmap`. The gradient of the step
    before is that of another batch. The exact method needs a second gradient, that of the present batch
    at the parameters before.

    The state is that of `expand()`, which holds `DifferenceState(count, previous)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Yuan et al., 2024, arXiv:2411.10438, eq. 2.3 and algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.mars_gradient(b1=0.5, gamma=0.25, max_norm=None)
    >>> u, state = tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 8.0), state)[0])  # 8 + 0.25 * (8 - 4)
    (4.0, 9.0)
    """

    b1: Hyper = 0.95
    gamma: Hyper = 0.025
    max_norm: Hyper | None = 1.0
    from_zero: bool = False
    axis_name: Hashable | None = None
    limits = {"b1": "[0, 1)", "gamma": "[0, inf)"}

    def expand(self) -> Transform:
        weight = lifted("*", self.gamma, lifted("/", self.b1, lifted("-", 1, self.b1)))
        if self.max_norm is None:
            return identity() + difference(self.from_zero) * weight
        # The sum of large numbers would overflow before it is clipped, so a 256th of it is clipped.
        # Multiplications by a power of two are exact.
        small = 2.0**-8
        part = identity() * small + difference(self.from_zero) * lifted("*", small, weight)
        limit = clip_by_block_norm(lifted("*", small, self.max_norm), axis_name=self.axis_name)
        return chain(part, limit, scale(1 / small))

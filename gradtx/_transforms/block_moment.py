"""A second moment with one number per leaf, and NovoGrad's quotient, which divides by its root."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import (
    abs_square,
    average_of_squares,
    filled_like,
    real_parts,
    shard_axes,
    squarable,
)
from gradtx._core.reduced import reduced_accumulator
from gradtx._core.sharding import varying_like
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import from_first
from gradtx._transforms.block_norms import entries_of, leaf_norm
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import Moment, scale_by_momentum
from gradtx._transforms.roots import root


class BlockSecondMomentState(NamedTuple):
    """The state of `block_second_moment`: the average of the squared norm, one number per leaf."""

    nu: Any


class block_second_moment(Moment):
    r"""Every entry of the update is the running average of the squared norm of its leaf.

    $$ u_t = v_t = b\, v_{t-1} + (1 - b)\, \|g_t\|^2 $$

    Args:
        decay: $b$, in [0, 1).
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    The state is `BlockSecondMomentState(nu)`, where `nu` is $v$, one number per leaf.

    Raises:
        ValueError: if `decay` lies outside its interval.

    Source: Ginsburg et al., 2019, arXiv:1905.11286.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.block_second_moment(0.5)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))[0]
    Array([12.5, 12.5], dtype=float32)
    """

    decay: Hyper = 0.999
    axis_name: Hashable | None = None
    limits = {"decay": "[0, 1)"}
    degrees = {"nu": 2}

    def init_leaf(self, param: Any) -> BlockSecondMomentState:
        return BlockSecondMomentState(varying_like(reduced_accumulator(param, (), ()), param))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        # Every entry is bounded so that the sum of all squares is finite.
        bounded = squarable(update, entries_of(update, self.axis_name))
        square = jnp.sum(abs_square(bounded))
        if axes := shard_axes(update, self.axis_name):
            square = jax.lax.psum(square, axes)
        nu = average_of_squares(state.nu, square, self.decay)
        return filled_like(real_parts(update)[0], nu), BlockSecondMomentState(nu)

    def tex(self, g: Tex, page: Page) -> Tex:
        square = Tex(rf"{leaf_norm(page.symbol(g), page).text}^{{2}}")
        return page.average("v", self.decay, square)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The output for a constant squared norm of 1, see `Moment.gain`."""
        return -jnp.expm1(log_kept)


class scale_by_novograd(Recipe):
    r"""NovoGrad is the heavy ball of gradients that are divided by the norm of their leaf.

    $$ u_t = m_t = b_1 m_{t-1} + \frac{g_t}{\sqrt{v_t + \bar\epsilon} + \epsilon}
       + \lambda\, \theta $$

    where $v_1 = \|g_1\|^2$ and $v_t = b_2 v_{t-1} + (1 - b_2)\, \|g_t\|^2$ for $t > 1$, one number per
    leaf.

    Args:
        b1: the decay of the heavy ball $m$, in [0, 1].
        b2: the decay of $v$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.
        weight_decay: the rate of decay $\lambda \ge 0$, which the heavy ball contains.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    This and every other number may be a schedule, or an array under `vmap`. The state is that of
    `expand()`: a counter and `BlockSecondMomentState(nu)`, and `optax.TraceState(trace)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Ginsburg et al., 2019, arXiv:1905.11286, algorithm 1.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.25
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    weight_decay: Hyper = 0.0
    axis_name: Hashable | None = None
    limits = {"b2": "[0, 1)", "eps": "[0, inf)", "eps_root": "[0, inf)"}
    instead = {"mu_dtype": "write `gradtx.stored(optimizer, 'bf16+8')` for a state of fewer bits"}

    def expand(self) -> Transform:
        v = block_second_moment(from_first(self.b2), self.axis_name)
        v = v if self.eps_root is None else v + self.eps_root
        return chain(
            identity() / (root(v) + self.eps),
            decoupled_weight_decay(self.weight_decay),
            scale_by_momentum(self.b1, form="heavy_ball"),
        )

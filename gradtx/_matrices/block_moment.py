"""The squared norm of every leaf, averaged, and NovoGrad's quotient, which divides by its root."""

from collections.abc import Hashable

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.blockwise import blockwise_second_moment
from gradtx._matrices.matrix_blocks import leaf_blocks
from gradtx._schedules.conventions import from_first
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import root


class block_second_moment(Recipe):
    r"""Every entry of the update is the running average of the squared norm of its leaf.

    $$ u_t = v_t = b\, v_{t-1} + (1 - b)\, \|g_t\|^2 $$

    Args:
        decay: $b$, in [0, 1).
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    The state is `BlockwiseMomentState(nu)`, where `nu` is $v$, one number per leaf.

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

    def expand(self) -> Transform:
        return blockwise_second_moment(self.decay, leaf_blocks(), True, self.axis_name)


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
    `expand()`: a counter and `BlockwiseMomentState(nu)`, and `optax.TraceState(trace)`.

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

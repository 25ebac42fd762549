"""Lion without a learning rate: the sign of a mixture of the momentum and the gradient."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.lifted import lifted
from gradtx._transforms.moments import CountedMomentumState, MomentumState, scale_by_momentum
from gradtx._transforms.narrow import is_narrow
from gradtx._transforms.scale import scale_by_sign


class scale_by_lion(Recipe):
    r"""Lion takes the sign of a mixture of the momentum and the gradient.

    $$ u_t = \operatorname{sign}(b_1 m_{t-1} + (1 - b_1)\, g_t), \qquad
       m_t = b_2 m_{t-1} + (1 - b_2)\, g_t $$

    The mixture is computed from the new momentum: $b_2$ times it is $b_1 m_t + (b_2 - b_1)\, g_t$, which
    has the same sign.

    Args:
        b1: the share of the momentum in the mixture, in [0, 1).
        b2: the decay of the momentum, in (0, 1).
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.

    The state is `MomentumState(mu)`, where `mu` is $m$. Where `b1` or `b2` is a schedule, the state is
    that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Chen et al., 2023, arXiv:2302.06675, algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_lion()
    >>> _, state = tx.update(jnp.array([1.0, 1.0]), tx.init(jnp.zeros(2)))
    >>> tx.update(jnp.array([0.0, -1.0]), state)[0]
    Array([ 1., -1.], dtype=float32)
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.99
    mu_dtype: DTypeLike | None = None
    limits = {"b1": "[0, 1)", "b2": "(0, 1)"}
    instead = dict.fromkeys(
        ("mode", "smooth_beta"), "leave it out, since gradtx's Lion always takes the sign"
    )

    def state(self) -> Any:
        if callable(self.b1) or callable(self.b2):
            return None
        return CountedMomentumState if is_narrow(self.mu_dtype) else MomentumState

    def expand(self) -> Transform:
        m = scale_by_momentum(self.b2, accumulator_dtype=self.mu_dtype)
        return chain(m * self.b1 + identity() * lifted("-", self.b2, self.b1), scale_by_sign())

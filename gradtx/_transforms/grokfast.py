"""Grokfast, which amplifies the slow part of the gradients."""

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import from_first
from gradtx._transforms.moments import scale_by_momentum


class grokfast(Recipe):
    r"""Grokfast adds a multiple of the average of the gradients to the gradient.

    $$ u_t = g_t + \lambda\, m_t, \qquad m_t = b\, m_{t-1} + (1 - b)\, g_t, \qquad m_0 = g_1 $$

    It stands before an optimizer: `chain(grokfast(), adamw(1e-3))`.

    Args:
        alpha: the decay $b$ of the average, in [0, 1).
        lamb: $\lambda \ge 0$.
        from_zero: whether the average starts at $m_0 = 0$. The authors' code starts it at the first
            gradient.

    This and every other number may be a schedule, or an array under `vmap`. The state is that of
    `expand()`: `MomentumState(mu)`, and a counter if the average starts at the first gradient.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Lee et al., 2024, arXiv:2405.20233, algorithm 2 (Grokfast-EMA).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.grokfast(alpha=0.5, lamb=2.0)
    >>> u, state = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.zeros(()), state)[0])
    (3.0, 1.0)
    """

    alpha: Hyper = 0.98
    lamb: Hyper = 2.0
    from_zero: bool = False
    limits = {"alpha": "[0, 1)", "lamb": "[0, inf)"}

    def expand(self) -> Transform:
        decay = self.alpha if self.from_zero else from_first(self.alpha)
        return identity() + scale_by_momentum(decay) * self.lamb

"""Optimistic gradient descent and optimistic Adam, which step as if the change would go on."""

from dataclasses import KW_ONLY

from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._transforms.adam import scale_by_adam
from gradtx._transforms.previous import difference
from gradtx._transforms.scale import scale_by_learning_rate


class scale_by_optimistic_gradient(Recipe):
    r"""The update is a multiple of the gradient plus a multiple of its change.

    $$ u_t = \alpha\, g_t + \beta\, (g_t - g_{t-1}), \qquad g_0 = g_1 $$

    Args:
        alpha: $\alpha$, a number, a schedule, or an array under `vmap`.
        beta: $\beta$, likewise.

    The state is that of `expand()`, which holds `DifferenceState(count, previous)`.

    Raises:
        TypeError: if `alpha` or `beta` is not a number, an array or a schedule.

    Source: Mokhtari, Ozdaglar & Pattathil, 2019, arXiv:1901.08511 (generalized OGDA).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_optimistic_gradient()
    >>> u, state = tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 5.0), state)[0])
    (3.0, 7.0)
    """

    alpha: Hyper = 1.0
    beta: Hyper = 1.0

    def expand(self) -> Transform:
        return identity() * self.alpha + difference() * self.beta


class optimistic_gradient_descent(Recipe):
    r"""Optimistic gradient descent steps as if the gradient would change once more as it just did.

    $$ u_t = -\eta\, (\alpha\, g_t + \beta\, (g_t - g_{t-1})), \qquad g_0 = g_1 $$

    In a game of two players, such as a GAN, it converges where gradient descent goes in circles.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        alpha: $\alpha$, the weight of the gradient.
        beta: $\beta$, the weight of its change.

    The state holds `DifferenceState(count, previous)`, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Sources: Popov, 1980; Daskalakis et al., 2017, arXiv:1711.00141; Mokhtari, Ozdaglar & Pattathil,
    2019, arXiv:1901.08511 (two weights).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.optimistic_gradient_descent(0.5)
    >>> u, state = tx.update(jnp.full((), 4.0), tx.init(jnp.zeros(())))
    >>> float(u), float(tx.update(jnp.full((), 3.0), state)[0])  # -0.5 * (3 + (3 - 4))
    (-2.0, -1.0)
    """

    learning_rate: Hyper
    alpha: Hyper = 1.0
    beta: Hyper = 1.0

    def expand(self) -> Transform:
        step = scale_by_optimistic_gradient(self.alpha, self.beta)
        return chain(step, scale_by_learning_rate(self.learning_rate))


class optimistic_adam_v2(Recipe):
    r"""Optimistic Adam steps as if Adam's update would change once more as it just did.

    $$ u_t = -\eta\, (\alpha\, a_t + \beta\, (a_t - a_{t-1})), \qquad
       a_t = \hat m_t / (\sqrt{\hat v_t + \bar\epsilon} + \epsilon), \qquad a_0 = a_1 $$

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        alpha: $\alpha$, the weight of Adam's update.
        beta: $\beta$, the weight of its change.
        b1: the decay of the average $m$ of the gradients, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        nesterov: whether NAdam's momentum (`scale_by_nadam_momentum`) takes the place of $\hat m$.

    The state holds `optax.ScaleByAdamState(count, mu, nu)`, `DifferenceState(count, previous)`, and
    `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Daskalakis et al., 2017, arXiv:1711.00141, algorithm 1.

    >>> import gradtx
    >>> gradtx.optimistic_adam_v2(1e-3, beta=0.5)
    optimistic_adam_v2(0.001, beta=0.5)
    """

    learning_rate: Hyper
    _: KW_ONLY
    alpha: Hyper = 1.0
    beta: Hyper = 1.0
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    nesterov: bool = True
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        step = scale_by_adam(
            self.b1, self.b2, self.eps, self.eps_root, self.mu_dtype, self.nesterov
        )
        change = scale_by_optimistic_gradient(self.alpha, self.beta)
        return chain(step, change, scale_by_learning_rate(self.learning_rate))

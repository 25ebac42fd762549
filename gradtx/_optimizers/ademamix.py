"""AdEMAMix, which is Adam with a second, much slower momentum, and its simplified form."""

from typing import Any

from jax.typing import DTypeLike

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._optimizers.convention import descent
from gradtx._schedules.growth import half_life_schedule
from gradtx._schedules.transitions import linear_schedule
from gradtx._transforms.adam import quotient
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import scale_by_momentum, second_moment


class ademamix(Recipe):
    r"""AdEMAMix is AdamW with the sum of a fast and a slow momentum.

    $$ u = -\eta\, \left(\frac{\hat m_1 + \alpha\, m_2}{\sqrt{\hat v + \bar\epsilon} + \epsilon}
       + \lambda\, \theta\right) $$

    The averages $m_1$ of the gradients and $v$ of their squares are bias-corrected. The slow average
    $m_2$ is not, so that it takes effect gradually.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`, unless its entry says that it must be constant.
        b1: the decay of the fast average $m_1$, in [0, 1).
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        b3: the decay of the slow average $m_2$, in [0, 1).
        alpha: $\alpha \ge 0$, the weight of the slow average: 5 to 10 in the paper.
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        mu_dtype: the dtype of both averages of the gradients. None means the dtype of the parameter, and
            float32 at least.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.
        ramp_steps: in how many steps `alpha` grows linearly from 0, and the half-life of $m_2$ grows
            linearly from that of `b1`. The paper takes the length of the run. `alpha`, `b1` and `b3`
            must then be constant. None means no growth.

    The ramp counts steps from 1, as the authors' code does. For one that counts from 0, as in an example
    of Optax, pass `alpha=linear_schedule(0.0, 5.0, steps)` and
    `b3=half_life_schedule(0.9, 0.9999, steps)`.

    The state is that of `expand()`: `MomentumState(mu)` for each of the two averages of the gradients,
    `SecondMomentState(nu)`, two counters, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule, or if it is a schedule
            where it must be constant.

    Source: Pagliardini, Ablin & Grangier, 2024, arXiv:2409.03137, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.ademamix(0.1, alpha=5.0, b3=0.96)
    >>> float(tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0])  # 1 + 5 * 0.04 times Adam's step
    -0.12
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    b2: Hyper = 0.999
    b3: Hyper = 0.9999
    alpha: Hyper = 5.0
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    mu_dtype: DTypeLike | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    ramp_steps: Fixed | None = None
    limits = {"alpha": "[0, inf)", "eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        alpha, b3 = self.alpha, self.b3
        if self.ramp_steps is not None:
            # A schedule is called with 0 at the first step, which is step 1 of the paper.
            alpha = linear_schedule(0.0, alpha, self.ramp_steps).shift(-1)
            b3 = half_life_schedule(self.b1, b3, self.ramp_steps).shift(-1)
        fast = bias_correction(scale_by_momentum(self.b1, accumulator_dtype=self.mu_dtype))
        slow = scale_by_momentum(b3, accumulator_dtype=self.mu_dtype)
        v = bias_correction(second_moment(self.b2))
        return descent(self, quotient(self, fast + slow * alpha, v))


class simplified_ademamix(Recipe):
    r"""Simplified AdEMAMix is Adam with the sum of a heavy ball and a multiple of the gradient.

    $$ u = -\eta\, \left(\frac{m_t + \alpha\, g_t}{\sqrt{\hat v_t + \bar\epsilon} + \epsilon}
       + \lambda\, \theta\right), \qquad m_t = b_1 m_{t-1} + g_t $$

    With $\alpha = 0$ this is Adam without a correction of the momentum, at a learning rate that is
    smaller by the factor $1 - b_1$.

    Args:
        learning_rate: the learning rate $\eta$; a negative rate ascends. This and every other number
            may be a schedule, or an array under `vmap`.
        b1: $b_1$, in [0, 1].
        b2: the decay of the average $v$ of the squares $|g|^2$, in [0, 1).
        alpha: $\alpha \ge 0$, the weight of the gradient.
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None adds nothing.
        weight_decay: the rate of decay $\lambda \ge 0$.
        mask: which leaves decay: a rule `(path, leaf) -> bool`, a tree of bools, or a function from the
            parameters to such a tree. None means all leaves.

    The state is that of `expand()`: `optax.TraceState(trace)` with $m$, the counter and
    `SecondMomentState(nu)`, and `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters while there is a decay.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Morwani et al., 2025, arXiv:2502.02431, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.simplified_ademamix(0.01, alpha=4.0)
    >>> float(tx.update(jnp.full((), 3.0), tx.init(jnp.zeros(())))[0])
    -0.05
    """

    learning_rate: Hyper
    b1: Hyper = 0.99
    b2: Hyper = 0.95
    alpha: Hyper = 0.0
    eps: Hyper = 1e-8
    eps_root: Hyper | None = None
    weight_decay: Hyper = 0.0
    mask: Any = None
    limits = {"alpha": "[0, inf)", "eps": "[0, inf)", "eps_root": "[0, inf)"}

    def expand(self) -> Transform:
        m = scale_by_momentum(self.b1, form="heavy_ball") + identity() * self.alpha
        return descent(self, quotient(self, m, bias_correction(second_moment(self.b2))))

"""ADOPT without a learning rate: the momentum of gradients that are divided by an older average."""

from jax.typing import DTypeLike

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import fanout
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._schedules.conventions import from_first
from gradtx._schedules.growth import step_power
from gradtx._transforms.clip import clip
from gradtx._transforms.moments import scale_by_momentum, second_moment
from gradtx._transforms.previous import delayed
from gradtx._transforms.roots import root
from gradtx._transforms.scale import scale


class scale_by_adopt(Recipe):
    r"""ADOPT divides the gradient by the root of the second moment of the steps before.

    $$ u_t = m_t = b_1 m_{t-1} + (1 - b_1)\, n_t, \qquad
       n_t = \operatorname{clip}\Big(\frac{g_t}{\max(\sqrt{v_{t-1}}, \epsilon)},\; c_t\Big) $$

    with $v_1 = |g_1|^2$ and $v_t = b_2 v_{t-1} + (1 - b_2)\, |g_t|^2$ for $t > 1$. The first step only
    sets $v_1$, so $n_1 = 0$. The divisor does not depend on the gradient that it divides, so the method
    converges with every $b_2$.

    Args:
        b1: the decay of the momentum $m$, in [0, 1).
        b2: the decay of $v$, in [0, 1).
        eps: $\epsilon \ge 0$, which replaces smaller roots.
        mu_dtype: the dtype of $m$. None means the dtype of the parameter, and float32 at least.
        nesterov: whether the momentum looks one step ahead.
        use_clipping: whether the entries of the quotient are clipped. The first version of the paper did
            not clip them.
        clip_value_fn: the largest entry $c_t$: a schedule, which is called with 0 at the first step, or
            a number. None means $(t - 1)^{1/4}$.

    This and every other number may be a schedule, or an array under `vmap`. The state is that of
    `expand()`: `SecondMomentState(nu)`, `MomentumState(mu)` and counters.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if a hyperparameter is not a number, an array or a schedule.

    Source: Taniguchi et al., 2024, arXiv:2411.02853, algorithm 2.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.9999
    eps: Hyper = 1e-6
    mu_dtype: DTypeLike | None = None
    nesterov: bool = False
    use_clipping: bool = True
    clip_value_fn: Hyper | None = None
    limits = {"b2": "[0, 1)", "eps": "[0, inf)"}

    def expand(self) -> Transform:
        v = delayed(second_moment(from_first(self.b2)))
        most = step_power(0.25) if self.clip_value_fn is None else self.clip_value_fn
        # Without clipping, `from_first(1)` drops the first quotient, whose divisor is `eps`.
        limit = clip(most) if self.use_clipping else scale(from_first(1.0))
        m = scale_by_momentum(self.b1, nesterov=self.nesterov, accumulator_dtype=self.mu_dtype)
        return chain(identity() / fanout("maximum", root(v), self.eps), limit, m)

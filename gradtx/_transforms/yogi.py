"""Yogi without a learning rate, and its second moment, which falls slowly."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, call, plus, square, times
from gradtx._core.numerics import abs_square
from gradtx._core.transform import Transform
from gradtx._core.unit import refuse_schedule
from gradtx._core.values import Fixed, Hyper
from gradtx._transforms.adam import ScheduledAdamState
from gradtx._transforms.bias_correction import bias_correction
from gradtx._transforms.moments import Moment, SecondMomentState, scale_by_momentum
from gradtx._transforms.roots import root


class yogi_moment(Moment):
    r"""Yogi's second moment moves towards the square of the gradient by a share of that square.

    $$ u_t = v_t = v_{t-1} - (1 - b)\, \operatorname{sign}(v_{t-1} - |g_t|^2)\, |g_t|^2 $$

    An average forgets a large square quickly when small gradients follow. This moment falls by
    $(1 - b)\, |g_t|^2$ only, so the steps that are divided by its root grow slowly.

    Args:
        decay: $b$, in [0, 1).
        initial: $v_0 \ge 0$, a number or an array.

    The state is `SecondMomentState(nu)`, where `nu` is $v$. As in Optax, `bias_correction` divides
    $v_t$ by $1 - b^t$, as if $v$ were an average with the decay $b$.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial` is a schedule.

    Source: Zaheer et al., 2018, "Adaptive methods for nonconvex optimization", algorithm 2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.yogi_moment(0.75, initial=4.0)
    >>> float(tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0])  # 4 - 0.25 * 1
    3.75
    """

    decay: Hyper = 0.999
    initial: Fixed = 1e-6
    limits = {"decay": "[0, 1)", "initial": "[0, inf)"}
    degrees = {"nu": 2}

    def validate(self) -> None:
        refuse_schedule(self, "initial")

    def init_leaf(self, param: Any) -> SecondMomentState:
        return SecondMomentState(accumulator(param, real=True, fill=self.initial))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        new = abs_square(update)
        nu = state.nu - (1 - self.decay) * jnp.sign(state.nu - new) * new
        return nu, SecondMomentState(nu)

    def tex(self, g: Tex, page: Page) -> Tex:
        rate, new = page.complement(self.decay, r"\beta"), square(g)

        def definition(v: str) -> Tex:
            old = Tex(f"{v}_{{t-1}}")
            change = times(rate, times(call("sign", plus(old, new, "-")), new))
            return Tex(rf"{plus(old, change, '-').text},\quad {v}_0 = {first(v).text}")

        first = lambda v: page.number(self.initial, f"{v}_0")
        return page.define("v", definition)

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The gain of an average with this decay, see `Moment.gain`."""
        return -jnp.expm1(log_kept)


class scale_by_yogi(Recipe):
    r"""Yogi is Adam with a second moment that falls slowly, `yogi_moment`.

    $$ u = \hat m / (\sqrt{\hat v + \bar\epsilon} + \epsilon), \qquad
       v_t = v_{t-1} - (1 - b_2)\, \operatorname{sign}(v_{t-1} - |g_t|^2)\, |g_t|^2 $$

    Args:
        b1: the decay of $m$, the average of $g$, in [0, 1).
        b2: the decay of $v$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to the root.
        eps_root: $\bar\epsilon \ge 0$, which is added under the root. None means 0.
        initial_accumulator_value: $v_0 \ge 0$. In Optax $m$ starts there, too, so that parameters
            without gradients move. Here $m$ starts at 0, as in the paper.

    The state is `optax.ScaleByAdamState(count, mu, nu)`. Where one of the two decays is a schedule, the
    state has one more field, `log_kept`; where both are, the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `initial_accumulator_value` is a schedule.

    Source: Zaheer et al., 2018, "Adaptive methods for nonconvex optimization", algorithm 2, which has no
    bias correction.
    """

    b1: Hyper = 0.9
    b2: Hyper = 0.999
    eps: Hyper = 1e-3
    eps_root: Hyper | None = None
    initial_accumulator_value: Fixed = 1e-6
    limits = {"eps": "[0, inf)", "eps_root": "[0, inf)"}

    def state(self) -> Any:
        changing = callable(self.b1) + callable(self.b2)
        return (optax.ScaleByAdamState, ScheduledAdamState, None)[changing]

    def expand(self) -> Transform:
        m = bias_correction(scale_by_momentum(self.b1))
        v = bias_correction(yogi_moment(self.b2, self.initial_accumulator_value))
        return m / (root(v if self.eps_root is None else v + self.eps_root) + self.eps)

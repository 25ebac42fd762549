"""Rprop: step sizes that grow while the sign of the gradient stays, and shrink where it changes."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.dtypes import accumulator
from gradtx._core.latex import OTHERWISE, Page, Tex, call, cases, times
from gradtx._core.quotients import sign
from gradtx._core.unit import Elementwise, refuse_schedule
from gradtx._core.values import Fixed, Hyper


class scale_by_rprop(Elementwise):
    r"""Every entry of the update has a step size of its own and the sign of the gradient.

    $$ u_t = s_t \operatorname{sign}(g_t), \qquad
       s_t = \min(\max(\eta_\pm\, s_{t-1}, s_{\min}), s_{\max}) $$

    The factor is $\eta_+$ where the gradient has the sign of the previous step, and $\eta_-$ where the
    sign is opposite. There the entry does not move in this step, and its step size stays the same in the
    next step. Rprop is meant for gradients of the whole data set, since the noise of a batch can flip
    the sign of an entry.

    Args:
        learning_rate: the first step size, which must be constant.
        eta_minus: $\eta_-$, in [0, 1].
        eta_plus: $\eta_+ \ge 0$, which should be more than 1.
        min_step_size: $s_{\min} \ge 0$.
        max_step_size: $s_{\max} \ge 0$.

    The state is `optax.ScaleByRpropState(step_sizes, prev_updates)`. The entries of a complex array have
    one step size each, and two signs are opposite where their angle is more than 90 degrees.

    Raises:
        ValueError: if a number lies outside its interval.
        TypeError: if `learning_rate` is a schedule.

    Sources: Riedmiller & Braun, 1993, "A direct adaptive method for faster backpropagation learning";
    the step after a change of sign is that of Igel & Hüsken, 2000, "Improving the Rprop learning
    algorithm", as in torch. Optax 0.2.8 returns every update one step late.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_rprop(0.5)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (3.0, 7.0, -2.0, -2.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    ...     print(round(float(u), 3))
    0.5
    0.6
    0.0
    -0.3
    """

    learning_rate: Fixed
    eta_minus: Hyper = 0.5
    eta_plus: Hyper = 1.2
    min_step_size: Hyper = 1e-6
    max_step_size: Hyper = 50.0
    limits = {
        "learning_rate": "[0, inf)",
        "eta_minus": "[0, 1]",
        "eta_plus": "[0, inf)",
        "min_step_size": "[0, inf)",
        "max_step_size": "[0, inf)",
    }
    linear = True  # it takes gradients of any size
    keeps_zero = True
    degrees = {"step_sizes": 0, "prev_updates": 0}

    def validate(self) -> None:
        refuse_schedule(self, "learning_rate")

    def init_leaf(self, param: Any) -> Any:
        sizes = accumulator(param, real=True, fill=self.learning_rate)
        return optax.ScaleByRpropState(sizes, accumulator(param))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        way = sign(update)
        # The signs are multiplied, because the product of small numbers would underflow to 0.
        agreement = (way * sign(state.prev_updates).conj()).real
        least, most = (
            jnp.asarray(x).astype(state.step_sizes.dtype)
            for x in (self.min_step_size, self.max_step_size)
        )
        factor = jnp.where(agreement > 0, self.eta_plus, self.eta_minus)
        changed = jnp.clip(state.step_sizes * factor, least, most)
        sizes = jnp.where(agreement == 0, state.step_sizes, changed)
        step = jnp.where(agreement < 0, jnp.zeros_like(way), sizes * way)
        return step, optax.ScaleByRpropState(sizes, step)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        up, down = page.number(self.eta_plus, r"\alpha"), page.number(self.eta_minus, r"\beta")
        least, most = page.number(self.min_step_size), page.number(self.max_step_size)
        first = page.number(self.learning_rate, "s_0")
        sign = rf"{g.text}\, p_{{t-1}}"

        def definition(s: str) -> Tex:
            old = Tex(f"{s}_{{t-1}}")
            bounded = lambda x: Tex(
                rf"\min\left(\max\left({times(x, old).text}, {least.text}\right), {most.text}\right)"
            )
            rows = [
                (bounded(up), rf"\text{{if }}{sign} > 0"),
                (bounded(down), rf"\text{{if }}{sign} < 0"),
                (old, OTHERWISE),
            ]
            return Tex(rf"{cases(*rows).text},\quad {s}_0 = {first.text}")

        size = page.define("s", definition)
        step = cases(
            (Tex("0"), rf"\text{{if }}{sign} < 0"), (times(size, call("sign", g)), OTHERWISE)
        )
        return page.from_zero(page.define("p", lambda p: step))

"""Schedule-Free learning: gradients between an average and the iterates that it averages."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from optax.contrib import ScheduleFreeState

from gradtx._compose.iterates import check_around
from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import scalar
from gradtx._core.latex import THETA, Page, Tex, plus, times
from gradtx._core.long_sums import dithered_add
from gradtx._core.schedule import at_step, next_count
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Hyper
from gradtx._core.varying import counter, deciding_axes, over
from gradtx._transforms.combined import combined, copied


class schedule_free(Wrapper):
    r"""Average the iterates of an optimizer, and take gradients between the average and the iterates.

    $$ z_t = z_{t-1} + u_t, \qquad x_t = x_{t-1} + c_t (z_t - x_{t-1}), \qquad
       y_t = (1 - b_1) z_t + b_1 x_t $$

    The trained parameters are $y$, at which gradients are taken. The updates $u$ are those of `inner`,
    which needs no decreasing learning rate and no momentum of its own. $x$ is the weighted mean of all
    $z$, in which $z_t$ has the weight

    $$ w_t = t^r (\max_{s \le t} \eta_s)^p, \qquad c_t = w_t / \textstyle\sum_{s \le t} w_s $$

    Evaluate with $x$, which `gradtx.eval_params(tx, params, state)` returns. $x$ is not stored: it is
    $z + (y - z) / b_1$. Parameters that are narrower than float32 lose small changes of $x$; write
    `master_weights(schedule_free(...))` for these.

    Args:
        inner: the optimizer with its learning rate, of gradtx or of Optax, such as `sgd(1.0)`.
        learning_rate: $\eta$, the learning rate of `inner` once more, since the weights depend on it. It
            may rise (warm-up), and needs no decay.
        b1: $b_1$, how far the trained parameters lie from $z$ towards the average, in (0, 1]. If it is a
            schedule, its value at a step belongs to the $y$ that this step returns.
        weight_lr_power: $p \ge 0$, the power of the largest learning rate so far.
        state_dtype: the dtype of $z$. None means the dtype of the parameter, and float32 at least.
        r: $r \ge 0$, the power of the step.
        decay_at_z: whether `inner` is given $z$ in place of $y$ as the parameters, so that its weight
            decay is a decay of $z$.

    The state is `optax.contrib.ScheduleFreeState(b1, weight_sum, step_count, max_lr,
    base_optimizer_state, z)`. As in Optax, `step_count` starts at 1.

    Raises:
        TypeError: if `inner` is not a transformation or keeps parameters of its own to evaluate with,
            such as an average, or if a hyperparameter is not a number, an array or a schedule.
        ValueError: if a number lies outside its interval, or if `update` is called without the
            parameters.

    Source: Defazio et al., 2024, arXiv:2405.15682, eq. 3-5 and algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.schedule_free(gradtx.sgd(1.0), 1.0, b1=0.5)
    >>> params = jnp.zeros(())
    >>> state = tx.init(params)
    >>> for gradient in (1.0, 1.0, 4.0):
    ...     u, state = tx.update(jnp.full((), gradient), state, params)
    ...     params = gradtx.apply_updates(params, u)
    >>> float(state.z), float(gradtx.eval_params(tx, params, state))  # the mean of -1, -2 and -6
    (-6.0, -3.0)
    """

    learning_rate: Hyper
    b1: Hyper = 0.9
    weight_lr_power: Hyper = 2.0
    state_dtype: DTypeLike | None = None
    r: Hyper = 0.0
    decay_at_z: bool = False
    instead = {"base_optimizer": "write `inner=`"}
    limits = {"b1": "(0, 1]", "weight_lr_power": "[0, inf)", "r": "[0, inf)"}
    linear = True
    asks_schedules = False  # they are evaluated at `step_count - 1`

    def validate(self) -> None:
        check_around(self, self.inner)

    def init_tree(self, params: PyTree) -> ScheduleFreeState:
        numbers = self.learning_rate, self.b1, self.weight_lr_power, self.r
        axes = deciding_axes(None, None, *numbers)
        zero = scalar(0.0)
        return ScheduleFreeState(
            b1=over(self._at("b1", 0), axes),
            weight_sum=counter(axes, zero),
            step_count=counter(frozenset(), 1),
            max_lr=counter(axes, zero),
            base_optimizer_state=self.inner.init_tree(params),
            z=tree_map(lambda p: copied(p, self.state_dtype), params),
        )

    def _at(self, name: str, step: Any) -> jax.Array:
        return scalar(at_step(getattr(self, name), step, f"schedule_free({name}=...)"))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, ScheduleFreeState]:
        if params is None:
            raise ValueError(
                "`schedule_free` computes its average from the parameters, so it needs the parameters: "
                "call `update(updates, state, params)`."
            )
        step = state.step_count - 1
        rate, b1 = jnp.abs(self._at("learning_rate", step)), self._at("b1", step)
        max_lr = jnp.maximum(state.max_lr, rate)
        weight = scalar(state.step_count) ** self._at("r", step)
        weight = weight * max_lr ** self._at("weight_lr_power", step)
        total = dithered_add(state.weight_sum, weight, state.step_count)
        # While the learning rate is 0, the weights are 0, and so are the updates.
        c = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), jnp.ones_like(total))
        z = tree_map(lambda p, old: old.astype(p.dtype), params, state.z)
        seen = z if self.decay_at_z else params
        out, inner = self.inner.update_tree(updates, state.base_optimizer_state, seen, extra)

        def moved(u: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
            """The new y minus y, without forming the small difference of two large numbers."""
            weight, new, old = (x.astype(y.dtype) for x in (c, b1, state.b1))
            behind = (y - z) / old  # x - z
            return (new - old) * behind + new * weight * (u - behind) + (1 - new) * u

        new = ScheduleFreeState(
            b1=b1,
            weight_sum=total,
            step_count=next_count(state.step_count),
            max_lr=max_lr,
            base_optimizer_state=inner,
            z=combined(operator.add, out, z, gaps=state.z),
        )
        return combined(moved, out, params, z), new

    def eval_tree(self, params: PyTree, state: Any) -> PyTree:
        """The parameters to evaluate with, given the parameters and the state of this wrapper."""

        def average(y: jax.Array, z: Any) -> jax.Array:
            z = z.astype(y.dtype)
            return z + (y - z) / state.b1.astype(y.dtype)

        return tree_map(average, params, state.z)

    def tex(self, g: Tex, page: Page) -> Tex:
        z0 = Tex("z_{t-1}")
        update = self.inner.tex(g, page)
        if self.decay_at_z:
            update = Tex(update.text.replace(THETA.text, z0.text), update.rank)
        update = page.symbol(update)
        mix = page.number(self.b1, "b")
        rest = plus(Tex("1"), mix, "-") if callable(self.b1) else page.complement(self.b1, "b")
        page.notes["z_0"] = r"= \bar{z}_0 = \theta_0"
        z = page.define("z", lambda _: plus(z0, update))
        words = r"\text{: the weight of }z_t\text{ divided by the sum of all weights}"
        page.notes["c_t"] = words
        old = Tex(r"\bar{z}_{t-1}")
        x = page.define(r"\bar{z}", lambda _: plus(old, times(Tex("c_t"), plus(z, old, "-"))))
        return plus(plus(times(rest, z), times(mix, x)), THETA, "-")

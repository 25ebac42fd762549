"""An outer optimizer, whose gradient is how far an inner optimizer went in several steps."""

import operator
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx._compose.iterates import check_around
from gradtx._compose.wrapper import Wrapper
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import OTHERWISE, THETA, Page, Tex, cases, plus
from gradtx._core.schedule import at_step, next_count
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Hyper
from gradtx._transforms.combined import combined, copied
from gradtx._wrappers.accumulate import whole
from gradtx._wrappers.conditional import choose, counter, deciding_axes, init_inner, step_if


class OuterState(NamedTuple):
    """The state of `outer`.

    Attributes:
        mini_step: the number of inner steps since the last outer step.
        gradient_step: the number of outer steps.
        slow: the slow parameters, in float32 at least.
        outer: the state of the outer optimizer.
        inner: the state of the inner optimizer.
    """

    mini_step: Any
    gradient_step: Any
    slow: Any
    outer: Any
    inner: Any


class outer(Wrapper):
    r"""Let an outer optimizer make one step for every few steps of an inner optimizer.

    After $k$ steps of `inner`, which moves the trained parameters $\theta$, the outer optimizer takes
    the way back as its gradient, and moves the slow parameters $\varphi$. Then the trained parameters
    start again from there:

    $$ \Delta = \varphi - \theta, \qquad \varphi \leftarrow \varphi + U(\Delta), \qquad
       \theta \leftarrow \varphi $$

    With `scale(-0.5)` as the outer optimizer this is `lookahead`. With
    `sgd(0.7, momentum=0.9, nesterov=True)` it is DiLoCo, on one worker. The outer optimizer runs on
    every $k$-th step alone: a compiled step contains it in one branch of a `lax.cond`.

    `gradtx.eval_params(tx, params, state)` returns $\varphi$. Parameters that are narrower than float32
    lose small steps of `inner`; write `master_weights(outer(...))` for these.

    Args:
        inner: the optimizer of every step, of gradtx or of Optax.
        optimizer: $U$, the outer optimizer, of gradtx or of Optax.
        every: $k$, the number of inner steps for one outer step, 1 or more, or a schedule of the number
            of outer steps. It is rounded to a whole number.
        reset_state: whether the state of `inner` starts anew after each outer step.

    The state is `OuterState(mini_step, gradient_step, slow, outer, inner)`.

    Raises:
        TypeError: if `inner` or `optimizer` is not a transformation, or if `inner` keeps parameters of
            its own to evaluate with, such as an average.
        ValueError: if `every` is less than 1, or if `update` is called without the parameters.

    Sources: Zhang et al., 2019, arXiv:1907.08610, algorithm 1; Douillard et al., 2023, arXiv:2311.08105,
    algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.outer(gradtx.sgd(1.0), gradtx.scale(-0.5), every=2)
    >>> params = jnp.zeros(())
    >>> state = tx.init(params)
    >>> for _ in range(4):
    ...     u, state = tx.update(jnp.ones(()), state, params)
    ...     params = gradtx.apply_updates(params, u)
    ...     print(float(params))
    -1.0
    -1.0
    -2.0
    -2.0
    """

    optimizer: AsTransform
    every: Hyper = 30
    reset_state: bool = False
    limits = {"every": "[1, inf)"}
    linear = True
    asks_schedules = False  # the schedule is evaluated at the number of outer steps

    def validate(self) -> None:
        check_around(self, self.inner)

    def init_tree(self, params: PyTree) -> OuterState:
        axes = deciding_axes(None, None, self.every)
        return OuterState(
            mini_step=counter(axes),
            gradient_step=counter(axes),
            slow=tree_map(copied, params),
            outer=init_inner(self.optimizer, params, axes),
            inner=init_inner(self.inner, params, axes),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, OuterState]:
        if params is None:
            raise ValueError(
                "`outer` compares the parameters with slow parameters, so it needs the parameters: "
                "call `update(updates, state, params)`."
            )
        syncs, mini_step = state.gradient_step, state.mini_step + 1
        now = mini_step >= whole(at_step(self.every, syncs, "outer(every=...)"))
        out, inner = self.inner.update_tree(updates, state.inner, params, extra)
        # The parameters after this step, as the way back to the slow ones.
        way = combined(lambda u, p, s: (s - p) - u, out, params, state.slow)
        seen = combined(lambda p, s: s, params, state.slow)
        moves, own = step_if(now, self.optimizer, way, state.outer, seen, extra)
        slow = combined(operator.add, moves, state.slow, gaps=state.slow)
        out = combined(lambda u, p, s: jnp.where(now, s - p, u), out, params, slow)
        if self.reset_state:
            inner = choose(now, lambda: self.inner.init_tree(params), lambda: inner)
        new = OuterState(
            mini_step=jnp.where(now, 0, mini_step),
            gradient_step=jnp.where(now, next_count(syncs), syncs),
            slow=slow,
            outer=own,
            inner=inner,
        )
        return out, new

    def eval_tree(self, params: PyTree, state: OuterState) -> PyTree:
        """The parameters to evaluate with, given the parameters and the state of this wrapper."""
        return state.slow

    def tex(self, g: Tex, page: Page) -> Tex:
        update = page.symbol(self.inner.tex(g, page))
        old = Tex(r"\varphi_{t-1}")
        way = page.define(r"\Delta", lambda _: plus(plus(old, THETA, "-"), update, "-"))
        k = page.number(self.every, "k", Tex("r"))
        if callable(self.every):
            page.notes["r"] = r"\text{: the number of outer steps before this one}"
        now = rf"\text{{in every }}{k.text}\text{{-th step}}"
        new = plus(old, self.optimizer.tex(way, page))
        slow = page.define(r"\varphi", lambda _: cases((new, now), (old, OTHERWISE)))
        page.notes[r"\varphi_0"] = r"= \theta_0"
        return cases((plus(slow, THETA, "-"), now), (update, OTHERWISE))

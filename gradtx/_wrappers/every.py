"""A transformation that runs on every k-th step."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import Page, Tex
from gradtx._core.schedule import at_step, next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper
from gradtx._wrappers.accumulate import whole
from gradtx._wrappers.conditional import counter, deciding_axes, init_inner, step_if


class EveryState(NamedTuple):
    """The state of `every`.

    Attributes:
        mini_step: the number of steps since the inner transformation ran.
        gradient_step: how often the inner transformation ran.
        inner_state: the state of the inner transformation.
    """

    mini_step: Any
    gradient_step: Any
    inner_state: Any


class every(Transform):
    """Run a transformation on every k-th step, with the gradients of that step alone.

    `inner` runs on the steps k, 2k, 3k and so on. Between them its state is kept, and the updates are
    -0.0, or pass unchanged. The gradients between them are lost; `accumulate` takes their mean.
    Schedules of `inner` count the steps on which it ran.

    A compiled step contains `inner` in one branch of a `lax.cond`. This also holds in a sweep whose
    states are made inside of the mapped function, since then all members count alike. If every member
    has its own `k`, or its own state from outside, JAX runs both branches on every call.

    Args:
        k: the number of steps from one run to the next, 1 or more, or a schedule of the number of
            runs. It is rounded to a whole number.
        inner: the transformation, of gradtx or of Optax.
        otherwise: what the updates are on the other steps: "zero", or "pass" for the incoming ones.

    The state is `EveryState(mini_step, gradient_step, inner_state)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `k` is less than 1, or if `otherwise` is an unknown word.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.every(2, gradtx.sgd(1.0))
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0, 5.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    ...     print(float(u))
    -0.0
    -3.0
    -0.0
    """

    k: Hyper
    inner: AsTransform
    otherwise: Literal["zero", "pass"] = "zero"
    limits = {"k": "[1, inf)"}
    linear = True
    asks_schedules = False  # the schedule is evaluated at the number of runs of `inner`

    @property
    def keeps_updates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.otherwise == "zero"

    def validate(self) -> None:
        if self.otherwise not in ("zero", "pass"):
            raise ValueError(f"`every(otherwise={self.otherwise!r})` must be 'zero' or 'pass'.")

    def init_tree(self, params: PyTree) -> EveryState:
        axes = deciding_axes(None, None, self.k)
        return EveryState(counter(axes), counter(axes), init_inner(self.inner, params, axes))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, EveryState]:
        mini_step, runs = state.mini_step + 1, state.gradient_step
        now = mini_step >= whole(at_step(self.k, runs, "every(k=...)"))
        out, inner = step_if(
            now,
            self.inner,
            updates,
            state.inner_state,
            params,
            extra,
            passes=self.otherwise == "pass",
        )
        new = EveryState(
            jnp.where(now, 0, mini_step), jnp.where(now, next_count(runs), runs), inner
        )
        return out, new

    inner_of = Wrapper.inner_of

    def tex(self, g: Tex, page: Page) -> Tex:
        k = page.number(self.k, "k", Tex("r"))
        if callable(self.k):
            page.notes["r"] = r"\text{: the number of runs before this one}"
        words = (
            rf"\text{{: these updates where }}{k.text}\text{{ steps have passed, and else none}}"
        )
        return page.function("every", words, self.inner.tex(g, page))

"""An average of what an expensive transformation gives, which runs every few steps only."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import accumulator, scalar
from gradtx._core.latex import Page, Tex, plus, times
from gradtx._core.numerics import average
from gradtx._core.schedule import next_count
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper
from gradtx._wrappers.conditional import counter, deciding_axes, init_inner, step_if


class RefreshedAverageState(NamedTuple):
    """The state of `refreshed_average`.

    Attributes:
        count: the number of steps taken.
        nu: the average.
        inner: the state of the inner transformation.
    """

    count: Any
    nu: Any
    inner: Any


class refreshed_average(Wrapper):
    r"""The update is an average of what the inner transformation gives at every k-th step.

    $$ h_t = b\, h_{t-1} + (1 - b)\, f(g_t) \text{ for } t = 1, k + 1, 2k + 1, \dots, \qquad
       h_t = h_{t-1} \text{ else} $$

    Here $h_0 = 0$, and the update is $h_t$, or $h_{t-1}$ if `late` is True. In the steps between, $f$ is
    not computed and keeps its state. A compiled step contains $f$ in one branch of a `lax.cond`.

    Args:
        inner: $f$, a transformation of gradtx or of Optax.
        decay: $b$, in [0, 1).
        every: $k \ge 1$, a whole number of steps.
        late: whether the update of a step is the average before this step.

    The state is `RefreshedAverageState(count, nu, inner)`, where `nu` is $h$.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `decay` lies outside its interval, or `every` is not a whole number of 1 or more.

    Source: Liu et al., 2023, arXiv:2305.14342, algorithm 3, lines 5 to 9.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.refreshed_average(gradtx.identity(), decay=0.5, every=2)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (4.0, 100.0, 8.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    ...     print(float(u))
    2.0
    2.0
    5.0
    """

    decay: Hyper = 0.99
    every: int = 10
    late: bool = False
    limits = {"decay": "[0, 1)"}
    linear = True

    def validate(self) -> None:
        if type(self.every) is not int or self.every < 1:
            raise ValueError(
                f"`refreshed_average(every={self.every!r})` must be a whole number of steps, 1 or more."
            )

    def init_tree(self, params: PyTree) -> RefreshedAverageState:
        axes = deciding_axes(None, None, self.decay)
        nu = jax.tree.map(accumulator, params)
        return RefreshedAverageState(counter(axes), nu, init_inner(self.inner, params, axes))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, RefreshedAverageState]:
        now = state.count % self.every == 0
        new, inner = step_if(now, self.inner, updates, state.inner, params, extra)

        def averaged(x: jax.Array, old: jax.Array) -> jax.Array:
            x = x.astype(old.dtype)
            if isinstance(self.decay, float):
                return jnp.where(now, average(old, x, self.decay), old)
            decay = scalar(self.decay).astype(old.dtype)
            return jnp.where(now, decay * old + (1 - decay) * x, old)

        # A leaf without a gradient keeps its average.
        out, nu = [], []
        given, structure = jax.tree.flatten(updates, is_leaf=lambda x: x is None)
        olds = structure.flatten_up_to(state.nu)
        for u, x, old in zip(given, structure.flatten_up_to(new), olds, strict=True):
            nu.append(old if u is None else averaged(x, old))
            out.append(None if u is None else old if self.late else nu[-1])
        return structure.unflatten(out), RefreshedAverageState(
            next_count(state.count), structure.unflatten(nu), inner
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        # The line holds in the steps that run `inner`, and the words say which these are.
        made, k = self.inner.tex(g, page), self.every
        when = rf"\text{{, which is computed in the steps }}1, {1 + k}, {1 + 2 * k}, \dots"
        page.notes["h_t"] = rf"\text{{: the last }}\bar{{h}}_t{when}"
        keep, rest = page.number(self.decay, r"\beta"), page.complement(self.decay, r"\beta")
        mean = plus(times(keep, Tex("h_{t-1}")), times(rest, made))
        page.define(r"\bar{h}", lambda _: mean)
        return Tex("h_{t-1}" if self.late else "h_t")

"""DoG: a step as long as the way from the start, divided by the root of all squared gradients."""

from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from optax.contrib import DoGState

from gradtx._core.authors import described
from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, sqrt as sqrt_tex, times
from gradtx._core.numerics import global_norm, sqrt
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, tree_map
from gradtx._core.values import Hyper
from gradtx._core.varying import counter, deciding_axes, over
from gradtx._transforms.combined import combined, copied

_KINDS = ("distance", "learning_rate", "heuristic")


class scale_by_dog(Transform):
    r"""Updates are scaled by the largest distance from the start, over the root of all squared norms.

    $$ u_t = \frac{\bar r_t}{\sqrt{G_t + \epsilon}}\, g_t, \qquad
       \bar r_t = \max_{s \le t} \|\theta_s - \theta_0\|, \qquad G_t = \sum_{s \le t} \|g_s\|^2 $$

    The norms are those of the whole tree, so the factor is one number. The distance is 0 at first, so it
    starts at a small number instead.

    Args:
        init_step: how the first step is made, a pair of a word and a number, which must be constant:
            `("distance", r)` for the distance $r$; `("heuristic", a)` for the distance
            $a (1 + \|\theta_0\|)$; `("learning_rate", eta)` for the factor $\eta$.
        eps: $\epsilon \ge 0$.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    The state is `optax.contrib.DoGState(is_init_step, init_params, max_dist, sum_sq_norm_grads)`.

    Raises:
        ValueError: if `eps` is negative, if `init_step` is not such a pair, or if `update` is called
            without the parameters.

    Source: Ivgi et al., 2023, arXiv:2302.12022, eq. 1-2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, params = gradtx.scale_by_dog(("distance", 0.5), eps=0.0), jnp.zeros(2)
    >>> tx.update(jnp.array([3.0, 4.0]), tx.init(params), params)[0]
    Array([0.3, 0.4], dtype=float32)
    """

    init_step: Any = ("heuristic", 1e-6)
    eps: Hyper = 1e-8
    axis_name: Hashable | None = None
    limits = {"eps": "[0, inf)"}

    def validate(self) -> None:
        pair = self.init_step
        known = isinstance(pair, tuple) and len(pair) == 2 and pair[0] in _KINDS
        if not known or not isinstance(pair[1], int | float):
            raise ValueError(
                "`scale_by_dog(init_step=...)` must be a pair of a word and a number, such as "
                f'`("heuristic", 1e-6)`, not {described(pair)}. The words are {", ".join(_KINDS)}.'
            )

    def init_tree(self, params: PyTree) -> DoGState:
        kind, value = self.init_step
        axes = deciding_axes(params, self.axis_name, self.eps)
        start = scalar(0.0 if kind == "learning_rate" else value)
        shapes = any(isinstance(p, jax.ShapeDtypeStruct) for p in jax.tree.leaves(params))
        if kind == "heuristic" and not shapes:
            start = start * (1 + scalar(global_norm(params, self.axis_name)))
        return DoGState(
            is_init_step=counter(axes, jnp.asarray(True)),
            init_params=tree_map(copied, params),
            max_dist=over(jnp.array(start, copy=True), axes),
            sum_sq_norm_grads=counter(axes, scalar(0.0)),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, DoGState]:
        if params is None:
            raise ValueError(
                "`scale_by_dog` measures how far the parameters have come, so it needs the parameters: "
                "call `update(updates, state, params)`."
            )
        way = combined(lambda p, start: p - start, params, state.init_params)
        distance = jnp.maximum(state.max_dist, scalar(global_norm(way, self.axis_name)))
        size = scalar(global_norm(updates, self.axis_name))
        # The square of a huge norm is infinite, so the step is divided by a root that is made of roots.
        # The sum is not the square of this root, whose roundings would add up over many steps.
        total = _hypotenuse(sqrt(state.sum_sq_norm_grads), size)
        squares = state.sum_sq_norm_grads + jnp.square(size)
        below = _hypotenuse(total, sqrt(scalar(self.eps)))
        factor = distance / jnp.where(below == 0, jnp.ones_like(below), below)
        if self.init_step[0] == "learning_rate":
            factor = jnp.where(state.is_init_step, scalar(self.init_step[1]), factor)
        new = DoGState(
            is_init_step=jnp.zeros_like(state.is_init_step),
            init_params=state.init_params,
            max_dist=distance,
            sum_sq_norm_grads=jnp.minimum(squares, jnp.finfo(total.dtype).max),
        )
        return tree_map(lambda u: factor.astype(u.dtype) * u, updates), new

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        words = r"\text{: the norm of all arrays together}"
        before = Tex(r"\theta_{t-1}")
        away = page.norm(plus(before, Tex(r"\theta_0"), "-"), "", words)
        page.notes[r"\theta_0"] = r"\text{: the first parameters}"
        first = self.init_step[1]
        start = rf"\text{{, and }}{page.number(first).text}\text{{ at first}}"
        if self.init_step[0] == "heuristic":
            own = page.number(first).text
            start = rf"\text{{, and }}{own}\, (1 + \|\theta_0\|)\text{{ at first}}"
        elif self.init_step[0] == "learning_rate":
            start = (
                rf"\text{{; the first factor of }}{g.text}\text{{ is }}{page.number(first).text}"
            )
        page.notes[r"\bar{r}_t"] = rf"\text{{: the largest }}{away.text}\text{{ so far}}{start}"
        total = page.define(
            "G", lambda G: plus(Tex(f"{G}_{{t-1}}"), Tex(f"{page.norm(g, '', words).text}^2"))
        )
        below = sqrt_tex(plus(page.from_zero(total), page.number(self.eps, r"\epsilon")))
        return times(fraction(Tex(r"\bar{r}_t"), below), g)


def _hypotenuse(a: jax.Array, b: jax.Array) -> jax.Array:
    """The root of the sum of two squares of numbers, 0 or more, without overflow."""
    unit = jnp.maximum(a, b)
    unit = jax.lax.stop_gradient(jnp.where(unit == 0, jnp.ones_like(unit), unit))
    return unit * sqrt(jnp.square(a / unit) + jnp.square(b / unit))

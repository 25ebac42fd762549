"""Polyak's step size: how far the loss is above its minimum, over the squared norm of the gradient."""

from collections.abc import Hashable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.numerics import norm_parts
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class scale_by_polyak(Elementwise):
    r"""The updates are multiplied by Polyak's step size, which needs the loss.

    $$ u = \min\left(\frac{f - f_{\min}}{\|g\|^2 + \epsilon}, \eta_{\max}\right) g $$

    The loss $f$ is passed to `update` as `value`. If all gradients are 0, the updates are 0.

    Args:
        f_min: $f_{\min}$, the smallest value that the loss can have, or a lower bound of it.
        max_learning_rate: $\eta_{\max} > 0$, the largest step size.
        eps: $\epsilon \ge 0$.
        variant: "sps", or "sps+", which takes 0 for $f - f_{\min}$ where it is negative.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    Raises:
        ValueError: if a number lies outside its interval, if `variant` is an unknown word, or if the
            loss is not passed to `update`.

    Sources: Polyak, 1987, "Introduction to optimization", section 5.3; Loizou et al., 2020,
    arXiv:2002.10542, eq. 4 (with a bound); Garrigos et al., 2023, arXiv:2307.14528 ("sps+").

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.scale_by_polyak(), jnp.array([3.0, 4.0])
    >>> tx.update(w, tx.init(w), value=12.5)[0]  # 12.5 / 25 of the gradient
    Array([1.5, 2. ], dtype=float32)
    """

    f_min: Hyper = 0.0
    max_learning_rate: Hyper = 1.0
    eps: Hyper = 0.0
    variant: Literal["sps", "sps+"] = "sps"
    axis_name: Hashable | None = None
    limits = {"max_learning_rate": "(0, inf)", "eps": "[0, inf)", "f_min": "(-inf, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True

    def validate(self) -> None:
        if self.variant not in ("sps", "sps+"):
            raise ValueError(
                f"`scale_by_polyak(variant={self.variant!r})` must be 'sps' or 'sps+'."
            )

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        if extra.get("value") is None:
            raise ValueError(
                "`scale_by_polyak` needs the loss: call `update(updates, state, params, value=loss)`."
            )
        return scalar(extra["value"]), *norm_parts(updates, self.axis_name)

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        value, unit, ratio = measured
        gap = value - scalar(self.f_min)
        gap = jnp.maximum(gap, 0) if self.variant == "sps+" else gap
        # The norm is not squared, because its square may be infinite or 0.
        size = scalar(unit) * jnp.hypot(scalar(ratio), jnp.sqrt(scalar(self.eps)) / scalar(unit))
        zero = size == 0
        size = jnp.where(zero, 1, size)
        # Without the bound, XLA would divide by the square after all: (a / b) / b = a / (b * b).
        largest = jnp.finfo(size.dtype).max
        step = jnp.clip(gap / size, -largest, largest) / size
        return state, jnp.where(zero, 0, jnp.minimum(step, scalar(self.max_learning_rate)))

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, step: Any
    ) -> tuple[jax.Array, Any]:
        return step * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        page.notes["f_t"] = r"\text{: the loss in step }t"
        norm = page.norm(g, "", r"\text{: the norm of all arrays together}")
        gap = plus(Tex("f_t"), page.number(self.f_min), "-")
        if self.variant == "sps+":
            gap = Tex(rf"\max\left({gap.text}, 0\right)")
        step = fraction(gap, plus(Tex(f"{norm.text}^2"), page.number(self.eps, r"\epsilon")))
        largest = page.number(self.max_learning_rate, r"\eta")
        return times(Tex(rf"\min\left({step.text}, {largest.text}\right)"), g)

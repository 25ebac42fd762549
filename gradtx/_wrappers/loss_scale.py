"""A loss that is multiplied by a number, so that float16 gradients neither vanish nor overflow."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import compute_dtype, real_dtype, scalar
from gradtx._core.latex import Page, Tex, fraction
from gradtx._core.limits import outside
from gradtx._core.lowering import Lowering
from gradtx._core.schedule import next_count
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Fixed
from gradtx._wrappers.conditional import all_finite, counter, deciding_axes, init_inner, step_if


class LossScaleState(NamedTuple):
    """The state of `dynamic_loss_scale`.

    Attributes:
        loss_scale: the number by which the loss of the next step is to be multiplied.
        good_steps: the number of finite steps since the scale has changed.
        skipped: the number of steps that were skipped because the gradients overflowed.
        inner_state: the state of the inner transformation.
    """

    loss_scale: Any
    good_steps: Any
    skipped: Any
    inner_state: Any


class dynamic_loss_scale(Wrapper):
    r"""Divide the gradients of a scaled loss by the scale, which follows what float16 can hold.

    $$ u = f\left(\tfrac{1}{s} \nabla (s\, \ell)\right) $$

    Gradients below 6e-8 are zero in float16, so the loss $\ell$ is multiplied by a number $s$ before the
    gradient is taken. `make_step` and `make_nnx_step` do so where they find this transformation. A loop
    of your own reads the scale with `gradtx.get(state, "loss_scale")`, multiplies the loss by it, and
    passes the gradients to `update` unchanged. They are divided in float32.

    If a gradient has an infinite or NaN entry, the step is skipped: the updates are -0.0, `inner` keeps
    its state, and the scale is multiplied by `backoff_factor`. After `growth_interval` finite steps in a
    row, it is multiplied by `growth_factor`. At `min_scale`, such a gradient is not the fault of the
    scale. So it is given to `inner`, and a NaN is not hidden. With `skip_nonfinite` inside, these steps
    are skipped too, and counted, and `gradtx.check` raises an error after too many of them:
    `dynamic_loss_scale(skip_nonfinite(chain(clip(1.0), adamw(1e-3))))`.

    Put it around the whole optimizer, because everything in front of it would see scaled gradients.

    Args:
        inner: $f$, the optimizer, of gradtx or of Optax.
        init_scale: the scale of the first step. The default is the largest power of two in float16.
        growth_factor: by how much the scale grows, 1 or more.
        backoff_factor: by how much the scale falls, in (0, 1).
        growth_interval: after how many finite steps in a row the scale grows.
        min_scale: the smallest scale, more than 0.
        max_scale: the largest scale.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded, so that all devices skip the same steps. With None, every device decides for what it
            holds.

    The state is `LossScaleState(loss_scale, good_steps, skipped, inner_state)`. `gradtx.readings` shows
    the scale and the number of skipped steps.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if a number lies outside its interval, if `init_scale` does not lie between
            `min_scale` and `max_scale`, if it is inside another transformation that scales the loss, or
            if it is not given all gradients unchanged.

    Source: Micikevicius et al., 2017, arXiv:1710.03740, section 3.2.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.dynamic_loss_scale(gradtx.sgd(1.0), init_scale=1024)
    >>> params = jnp.ones((), jnp.float16)
    >>> state = tx.init(params)
    >>> for gradient in (512.0, jnp.inf):
    ...     updates, state = tx.update(jnp.full((), gradient, jnp.float16), state, params)
    ...     print(float(updates), float(gradtx.get(state, "loss_scale")))
    -0.5 1024.0
    -0.0 512.0
    """

    init_scale: Fixed = 2.0**15
    growth_factor: Fixed = 2.0
    backoff_factor: Fixed = 0.5
    growth_interval: int = 2000
    min_scale: Fixed = 1.0
    max_scale: Fixed = 2.0**24
    axis_name: Hashable | None = None
    limits = {
        "init_scale": "(0, inf)",
        "growth_factor": "[1, inf)",
        "backoff_factor": "(0, 1)",
        "min_scale": "(0, inf)",
        "max_scale": "(0, inf)",
    }
    linear = True
    keeps_updates = True

    def validate(self) -> None:
        if self.growth_interval < 1:
            raise ValueError(
                f"`dynamic_loss_scale(growth_interval={self.growth_interval!r})` must be a whole number "
                "of steps, 1 or more."
            )
        low, high = self.min_scale, self.max_scale
        known = isinstance(low, float) and isinstance(high, float)
        if known and outside(self.init_scale, f"[{low!r}, {high!r}]"):
            raise ValueError(
                f"`dynamic_loss_scale(init_scale={self.init_scale!r})` must lie between "
                f"`min_scale={low!r}` and `max_scale={high!r}`."
            )
        refuse_loss_scale(self, self.inner, "one loss has one scale")

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if any(term is not given for term, given in zip(stream, low.gradients, strict=True)):
            raise ValueError(
                "`dynamic_loss_scale` divides all gradients by the scale of the loss, so it must be "
                "given all of them unchanged. Put it around the whole optimizer: "
                "`dynamic_loss_scale(chain(clip(1.0), adamw(1e-3)))`."
            )
        return super().lower(low, stream)

    def init_tree(self, params: PyTree) -> LossScaleState:
        numbers = self.init_scale, self.growth_factor, self.backoff_factor
        ends = self.min_scale, self.max_scale
        axes = deciding_axes(params, self.axis_name, *numbers, *ends)
        inner = init_inner(self.inner, params, axes)
        scale = counter(axes, scalar(self.init_scale))
        return LossScaleState(scale, counter(axes), counter(axes), inner)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, LossScaleState]:
        scale = state.loss_scale
        finite = all_finite(updates, self.axis_name)
        run = finite | (scale <= scalar(self.min_scale))
        if extra.get("grad") is not None:
            extra = extra | {"grad": unscaled(extra["grad"], scale)}
        if callable(grad_fn := extra.get("grad_fn")):
            extra = extra | {"grad_fn": lambda *args: unscaled(grad_fn(*args), scale)}
        given = unscaled(updates, scale)
        out, inner = step_if(run, self.inner, given, state.inner_state, params, extra)
        count = next_count(state.good_steps)
        grows = count >= self.growth_interval
        larger = jnp.minimum(scale * scalar(self.growth_factor), scalar(self.max_scale))
        smaller = jnp.maximum(scale * scalar(self.backoff_factor), scalar(self.min_scale))
        new = LossScaleState(
            loss_scale=jnp.where(finite, jnp.where(grows, larger, scale), smaller),
            good_steps=jnp.where(finite & ~grows, count, jnp.zeros_like(count)),
            skipped=jnp.where(run, state.skipped, next_count(state.skipped)),
            inner_state=inner,
        )
        return out, new

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes["S_t"] = r"\text{: the scale of the loss}"
        return self.inner.tex(page.symbol(fraction(g, Tex("S_t"))), page)


def unscaled(tree: PyTree, scale: jax.Array) -> PyTree:
    """The arrays of a tree divided by the scale, in float32 at least."""
    inverse = 1 / scale

    def divided(x: Any) -> jax.Array:
        x = x.astype(compute_dtype(x))
        factor = inverse.astype(real_dtype(x.dtype))
        if jnp.iscomplexobj(x):
            return jax.lax.complex(x.real * factor, x.imag * factor)
        return x * factor

    return jax.tree.map(divided, tree)


def refuse_loss_scale(outer: Transform, inner: Any, reason: str) -> None:
    """Refuse a transformation around a `dynamic_loss_scale`.

    Raises:
        ValueError: if there is a `dynamic_loss_scale` in `inner`.
    """
    if isinstance(inner, dynamic_loss_scale):
        name = type(outer).__name__
        raise ValueError(
            f"`{name}` cannot stand around `dynamic_loss_scale`: {reason}. Put it inside: "
            f"`dynamic_loss_scale({name}(...))`."
        )
    for child in inner.children:
        refuse_loss_scale(outer, child, reason)

"""Clipping to a percentile of the last norms."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.history import step_norm
from gradtx._core.latex import Page, Tex, fraction, number, times
from gradtx._core.schedule import next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper
from gradtx._core.varying import counter, deciding_axes, over
from gradtx._transforms.clip import at_most_one
from gradtx._transforms.norm_history import check_whole, counted, kept, recorded, shrunk


class ClipByPercentileState(NamedTuple):
    """The state of `clip_by_percentile`.

    Attributes:
        count: the number of steps whose norms were recorded.
        norms: the last norms, shape [window], of which the last one is the newest.
        clipped: the number of steps that were clipped.
    """

    count: Any
    norms: Any
    clipped: Any


class clip_by_percentile(Transform):
    r"""The updates are shrunk so that their global norm is at most a percentile of the last norms.

    $$ u = g \min\left(1, \frac{P}{\|g\|}\right) $$

    Here $P$ is the percentile of the norms, before clipping, of the last steps, the one of this step
    included. Between two norms it is interpolated. Steps that are clipped are counted:
    `gradtx.readings(state)["clipped"]`. In the long run, their share is 1 minus the percentile.

    A gradient that is not finite makes all updates NaN, so that it is not hidden. It is not recorded,
    and neither is one of 0.

    Args:
        percentile: which percentile $P$ is, in [0, 100]: a number, a schedule, or an array under `vmap`.
            The paper takes 10, so that almost all steps are clipped and their norms are nearly equal.
            With 90 or more, only the largest gradients are clipped.
        window: how many norms are recorded, 1 or more. The paper records all of them.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    The state is `ClipByPercentileState(count, norms, clipped)`.

    Raises:
        ValueError: if `percentile` lies outside its interval, or if `window` is not a whole number.

    Source: Seetharaman et al., 2020, arXiv:2007.14469 (AutoClip), Algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_percentile(50.0)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0, 50.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    >>> float(u), int(gradtx.readings(state)["clipped"])
    (3.0, 2)
    """

    percentile: Hyper = 10.0
    window: int = 128
    axis_name: Hashable | None = None
    limits = {"percentile": "[0, 100]"}
    linear = True  # it takes gradients of any size
    keeps_zero = True
    degrees = {"norms": 1}

    def validate(self) -> None:
        check_whole(self, "window", 1)

    def init_tree(self, params: PyTree) -> ClipByPercentileState:
        axes = deciding_axes(params, self.axis_name, self)
        norms = over(jnp.zeros(self.window, scalar_dtype()), axes)
        return ClipByPercentileState(counter(axes), norms, counter(axes))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, ClipByPercentileState]:
        norm = step_norm(updates, self.axis_name)
        largest = jnp.finfo(norm.value.dtype).max
        norms = jnp.concatenate([state.norms[1:], norm.value[None]])
        norms = jnp.where(recorded(norm), norms, state.norms)
        count = jnp.where(recorded(norm), next_count(state.count), state.count)
        last = jnp.clip(count, 1, self.window) - 1
        known = jnp.arange(self.window, dtype=jnp.int32) >= self.window - jnp.minimum(
            count, self.window
        )
        ordered = jnp.sort(jnp.where(known, norms, largest))
        place = scalar(last) * (scalar(self.percentile) / 100)
        below = jnp.floor(place).astype(jnp.int32)
        low, high = ordered[below], ordered[jnp.minimum(below + 1, last)]
        limit = low + (place - scalar(below)) * (high - low)
        above = norm.value > limit
        new = ClipByPercentileState(count, norms, counted(state.clipped, above))
        return shrunk(updates, norm, limit), kept(norm, new, state)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        norm = page.norm(g, "", r"\text{: the norm of all arrays together}")
        which = page.number(self.percentile, "p")
        words = (
            rf"\text{{: the percentile }}{which.text}\text{{ of the norms of the last }}"
            rf"{number(self.window).text}\text{{ steps}}"
        )
        page.notes.setdefault("P_t", words)
        return times(at_most_one(fraction(Tex("P_t"), norm)), g)

"""Clipping of norms that are far above their average."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.history import combined, step_norm
from gradtx._core.latex import Page, Tex, fraction, plus, times
from gradtx._core.schedule import next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Hyper
from gradtx._core.varying import counter, deciding_axes
from gradtx._transforms.clip import at_most_one
from gradtx._transforms.norm_history import check_whole, counted, kept, shrunk

LEAST_SPREAD = 0.01  # the least deviation, as a part of the average


class ClipByZScoreState(NamedTuple):
    """The state of `clip_by_z_score`.

    Attributes:
        count: the number of norms in the average.
        mean: the average of the norms.
        deviation: the root of the average squared deviation from the mean.
        clipped: the number of steps that were clipped.
    """

    count: Any
    mean: Any
    deviation: Any
    clipped: Any


class clip_by_z_score(Transform):
    r"""The updates are shrunk if their global norm is far above its average, and more so the farther.

    $$ u = g \min\left(1, \frac{1}{\|g\|}\left(\mu + \frac{(z s)^2}{\|g\| - \mu}\right)\right)
    \quad\text{if } \|g\| > \mu + z s, \qquad s = \max(\sigma, 0.01 \mu) $$

    Here $\mu$ is the average of the norms of the steps before, $\sigma$ is their deviation from it, and
    $z$ is the number of deviations from which on a norm is clipped. With $n = \|u\|$ and the
    decay $\beta$

    $$ \mu' = \beta \mu + (1 - \beta) n, \qquad
    \sigma'^2 = \beta \sigma^2 + (1 - \beta) (n - \mu')^2 $$

    During the first `warmup` steps, nothing is clipped, and $\mu$ and $\sigma$ are the plain mean and
    the standard deviation. Steps that are clipped are counted: `gradtx.readings(state)["clipped"]`.

    The paper divides by $\sigma$, which is 0 if all norms have been equal. Here the deviation counts as
    a hundredth of the average at least, so that a spike is clipped then too, and a rounding is not.

    A clipped norm enters the averages as what it was clipped to. So if the norms rise for good by many
    deviations, they are clipped to about the old level from then on, and the counter shows it.
    `clip_by_percentile` follows such a rise within its window. A gradient that is not finite makes all
    updates NaN, so that it is not hidden. It does not enter the averages, and neither does one of 0.

    Args:
        z: how many deviations above the average a norm may lie, more than 0: a number, a schedule, or an
            array under `vmap`.
        decay: $\beta$, the decay of the averages, in [0, 1).
        warmup: the number of steps before the first one that may be clipped, 1 or more.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norm of what it holds.

    The state is `ClipByZScoreState(count, mean, deviation, clipped)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `warmup` is not a whole number.

    Source: Kumar et al., 2025, arXiv:2504.02507 (ZClip), Algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_z_score(warmup=3)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 1.2, 0.8, 50.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    >>> round(float(u), 3), int(gradtx.readings(state)["clipped"])
    (1.003, 1)
    """

    z: Hyper = 2.5
    decay: Hyper = 0.97
    warmup: int = 25
    axis_name: Hashable | None = None
    limits = {"z": "(0, inf)", "decay": "[0, 1)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True
    degrees = {"mean": 1, "deviation": 1}

    def validate(self) -> None:
        check_whole(self, "warmup", 1)

    def init_tree(self, params: PyTree) -> ClipByZScoreState:
        axes = deciding_axes(params, self.axis_name, self)
        mean, deviation = (counter(axes, np.zeros((), scalar_dtype())) for _ in range(2))
        return ClipByZScoreState(counter(axes), mean, deviation, counter(axes))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, ClipByZScoreState]:
        norm = step_norm(updates, self.axis_name)
        x, mean = norm.value, state.mean
        largest = jnp.finfo(x.dtype).max
        spread = jnp.maximum(state.deviation, LEAST_SPREAD * mean)
        bound = jnp.minimum(scalar(self.z) * spread, largest)
        warming = state.count < self.warmup
        # A bound of 0 has underflowed.
        above = ~warming & (bound > 0) & (x - mean > bound)
        limit = mean + bound * (bound / jnp.where(above, x - mean, jnp.ones_like(x)))
        taken = jnp.where(above, limit, x)
        # While it warms up, the mean of n norms is the mean of n - 1 of them and the new one.
        rate = jnp.where(warming, 1 / (scalar(state.count) + 1), scalar(1 - self.decay))
        away = taken - mean
        weight = rate * (1 - rate) * jnp.where(warming, jnp.ones_like(rate), 1 - rate)
        new = ClipByZScoreState(
            next_count(state.count),
            mean + rate * away,
            combined(1 - rate, state.deviation, weight, away),
            counted(state.clipped, above),
        )
        return shrunk(updates, norm, jnp.where(above, limit, largest)), kept(norm, new, state)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        norm = page.norm(g, "", r"\text{: the norm of all arrays together}")
        page.notes.setdefault(r"\mu_t", r"\text{: the average of the norms}")
        page.notes.setdefault(r"\sigma_t", r"\text{: their deviation from the average}")
        spread = Tex(rf"\max\left(\sigma_{{t-1}}, {LEAST_SPREAD} \mu_{{t-1}}\right)")
        bound = times(page.number(self.z, "z"), spread)
        away = plus(norm, Tex(r"\mu_{t-1}"), "-")
        limit = plus(Tex(r"\mu_{t-1}"), fraction(Tex(rf"{bound.within(2)}^2"), away))
        condition = rf"\text{{where }}{away.text} > {bound.text}\text{{, and else }}\infty"
        c = page.define("c", lambda _: Tex(rf"{limit.text}\quad {condition}"))
        return times(at_most_one(fraction(c, norm)), g)

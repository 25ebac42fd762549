"""Clipping of every leaf by the average of its own norms."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.history import StepNorm, step_norm
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.numerics import average
from gradtx._core.schedule import next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, tree_map
from gradtx._core.values import Hyper
from gradtx._core.varying import counter, deciding_axes
from gradtx._transforms.clip import at_most_one, shrink
from gradtx._transforms.norm_history import check_whole, counted


class ClipByAverageNormState(NamedTuple):
    """The state of `clip_by_average_norm`.

    Attributes:
        count: the number of steps.
        norms: for every leaf the average of its clipped norms, or 0 if they have all been 0.
        clipped: for every leaf the number of steps in which it was clipped.
    """

    count: Any
    norms: Any
    clipped: Any


class clip_by_average_norm(Transform):
    r"""Every leaf is shrunk so that its norm is at most a multiple of the average of its own norms.

    $$ u = g \min\left(1, \frac{c \gamma}{\|g\|}\right), \qquad
    \gamma' = \beta \gamma + (1 - \beta) \|u\| $$

    Here $\gamma$ is the average of the norms of this leaf after clipping, $c$ is `factor`, and $\beta$
    is the decay. During the first `warmup` steps, the whole tree is clipped to the norm `max_norm`
    instead, and $\gamma$ is the smallest norm of the leaf so far, after clipping.

    `gradtx.get(state, "clipped")` has the number of clipped steps of every leaf, and
    `gradtx.readings(state)["clipped"]` their sum. A leaf whose gradient is not finite becomes NaN, so
    that it is not hidden, and its average stays unchanged. While the average is 0, the leaf is not
    clipped: by the rule of the paper, such a leaf would never move again.

    Args:
        factor: $c > 0$: a number, a schedule, or an array under `vmap`.
        decay: $\beta$, the decay of the averages, in [0, 1).
        warmup: the number of steps in which the whole tree is clipped, 0 or more.
        max_norm: the norm to which the whole tree is clipped in these steps, 0 or more.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    The state is `ClipByAverageNormState(count, norms, clipped)`.

    Raises:
        ValueError: if a number lies outside its interval, or if `warmup` is not a whole number.

    Source: Wang et al., 2025, arXiv:2502.11034 (AdaGC), Algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.clip_by_average_norm(2.0, warmup=0)
    >>> state = tx.init({"a": jnp.zeros(()), "b": jnp.zeros(())})
    >>> for gradient in (1.0, 50.0):
    ...     g = {"a": jnp.full((), gradient), "b": jnp.ones(())}
    ...     u, state = tx.update(g, state)
    >>> {name: float(x) for name, x in u.items()}, float(gradtx.readings(state)["clipped"])
    ({'a': 2.0, 'b': 1.0}, 1.0)
    """

    factor: Hyper = 1.05
    decay: Hyper = 0.98
    warmup: int = 100
    max_norm: Hyper = 1.0
    axis_name: Hashable | None = None
    limits = {"factor": "(0, inf)", "decay": "[0, 1)", "max_norm": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True
    degrees = {"norms": 1}

    def validate(self) -> None:
        check_whole(self, "warmup", 0)

    def init_tree(self, params: PyTree) -> ClipByAverageNormState:
        def start(value: Any) -> PyTree:
            return tree_map(
                lambda p: counter(deciding_axes(p, self.axis_name, self) | whole, value), params
            )

        # While it warms up, the norm of the whole tree decides about every leaf.
        whole = deciding_axes(params, self.axis_name) if self.warmup else frozenset()
        count = counter(deciding_axes(None, None, self))
        return ClipByAverageNormState(count, start(np.zeros((), scalar_dtype())), start(0))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, ClipByAverageNormState]:
        leaves, structure = flatten(updates)
        norms, clipped = map(structure.flatten_up_to, (state.norms, state.clipped))
        whole = step_norm(leaves, self.axis_name) if self.warmup else None
        for i, u in enumerate(leaves):
            if u is not None:
                leaves[i], norms[i], above = self._one(u, norms[i], state.count, whole)
                clipped[i] = counted(clipped[i], above)
        new = next_count(state.count), structure.unflatten(norms), structure.unflatten(clipped)
        return structure.unflatten(leaves), ClipByAverageNormState(*new)

    def _one(
        self, update: jax.Array, mean: jax.Array, count: jax.Array, whole: StepNorm | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The update of one leaf, its new average, and whether it is clipped."""
        own = step_norm(update, self.axis_name)
        x, known = own.value, mean > 0
        limit = jnp.where(known, scalar(self.factor) * mean, jnp.finfo(x.dtype).max)
        limit = jnp.minimum(limit, jnp.finfo(x.dtype).max)
        above, good = x > limit, own.finite
        taken = jnp.minimum(x, limit)
        new = jnp.where(known, average(mean, taken, self.decay), taken)
        factor, unit = map(scalar, shrink(own.unit, own.ratio, limit))
        if whole is not None:
            warming = count < self.warmup
            all_factor, all_unit = map(scalar, shrink(whole.unit, whole.ratio, self.max_norm))
            above = jnp.where(warming, whole.value > scalar(self.max_norm), above)
            good = jnp.where(warming, whole.finite, good)
            shrunk = x / all_unit * all_factor
            least = jnp.where(known & (mean < shrunk), mean, shrunk)
            # A gradient of 0 is not the smallest norm, since nothing could pass such a bound.
            least = jnp.where(shrunk > 0, least, mean)
            new = jnp.where(warming, least, new)
            factor = jnp.where(warming, all_factor, factor)
            unit = jnp.where(warming, all_unit, unit)
        dtype = update.dtype
        update = update * (1 / unit).astype(dtype) * factor.astype(dtype)
        return update, jnp.where(good, new, mean), above & good

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        norm = page.norm(g, "", r"\text{: the norm of one array}")
        words = rf"\text{{: the average of }}{norm.text}\text{{ after clipping}}"
        page.notes.setdefault(r"\gamma_t", words)
        limit = times(page.number(self.factor), Tex(r"\gamma_{t-1}"))
        return times(at_most_one(fraction(limit, norm)), g)

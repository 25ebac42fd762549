"""Steps whose gradient norm or loss is much larger than before are skipped."""

from collections.abc import Hashable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.history import combined, step_norm
from gradtx._core.latex import Page, Tex
from gradtx._core.schedule import next_count
from gradtx._core.trees import PyTree
from gradtx._core.values import Fixed
from gradtx._wrappers.conditional import counter, deciding_axes, init_inner, step_if
from gradtx._wrappers.loss_scale import refuse_loss_scale


class SkipSpikesState(NamedTuple):
    """The state of `skip_spikes`.

    Attributes:
        count: the number of values in the mean.
        mean: the average of the norm or of the loss.
        deviation: the root of the average squared deviation from the mean.
        skipped: the number of steps that were skipped.
        inner_state: the state of the inner transformation.
    """

    count: Any
    mean: Any
    deviation: Any
    skipped: Any
    inner_state: Any


class skip_spikes(Wrapper):
    r"""Skip every step whose gradient norm, or loss, is far above its average.

    $$ x > \mu + z \max(\sigma, 0.01 |\mu|) $$

    Here $x$ is the global norm of the gradients or the loss, $\mu$ is its exponential average, and
    $\sigma$ is the root of the exponential average of $(x - \mu)^2$. Such a step has updates of -0.0, so
    that the parameters keep every bit, and `inner` is not run and keeps its state. Steps that are
    skipped are counted: `gradtx.readings(state)["skipped"]`.

    A spike enters the averages as the bound that it exceeded. So one spike hardly moves them, and if the
    level has risen for good, the bound reaches it after some steps. A value that is not finite is always
    a spike, and does not enter the averages.

    The decision depends on the gradients or on the loss. Under `jax.vmap`, JAX therefore runs `inner`
    for all members on every step, and keeps the old state where a member skips.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        z: how many deviations above the average a value may lie, more than 0.
        decay: the decay of the averages. While fewer than 1 / (1 - decay) values are known, the averages
            are plain means.
        warmup: the number of steps before the first one that may be skipped for its size.
        of: what is watched: "norm", the global norm of the gradients, or "value", the loss, which is
            passed to `update` as `value`.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded.

    The state is `SkipSpikesState(count, mean, deviation, skipped, inner_state)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if a number is outside of its interval, if `of` is an unknown word, or if `update` is
            not given the loss that is to be watched.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.skip_spikes(gradtx.sgd(1.0), warmup=3)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 1.2, 0.8, 50.0, 1.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    >>> float(u), int(gradtx.readings(state)["skipped"])
    (-1.0, 1)
    """

    z: Fixed = 6.0
    decay: Fixed = 0.99
    warmup: int = 100
    of: Literal["norm", "value"] = "norm"
    axis_name: Hashable | None = None
    limits = {"z": "(0, inf)", "decay": "[0, 1)"}
    linear = True
    keeps_updates = True

    def validate(self) -> None:
        if type(self.warmup) is not int or self.warmup < 1:
            raise ValueError(
                f"`skip_spikes(warmup={self.warmup!r})` must be a whole number of steps, 1 or more."
            )
        if self.of not in ("norm", "value"):
            raise ValueError(f"`skip_spikes(of={self.of!r})` must be 'norm' or 'value'.")
        refuse_loss_scale(self, self.inner, "the scale would not see an overflow, and never fall")

    def init_tree(self, params: PyTree) -> SkipSpikesState:
        axes = deciding_axes(params, self.axis_name, self.z, self.decay)
        mean, deviation = (counter(axes, np.zeros((), scalar_dtype())) for _ in range(2))
        inner = init_inner(self.inner, params, axes)
        return SkipSpikesState(counter(axes), mean, deviation, counter(axes), inner)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, SkipSpikesState]:
        x = self._watched(updates, extra)
        finite = jnp.isfinite(x)
        spread = jnp.maximum(state.deviation, 0.01 * jnp.abs(state.mean))
        largest = jnp.finfo(x.dtype).max
        bound = jnp.minimum(state.mean + jnp.minimum(scalar(self.z) * spread, largest), largest)
        # With a spread of 0, all values have been 0 so far, and the first gradient is not a spike.
        known = (state.count >= self.warmup) & (spread > 0)
        good = finite & ~(known & (x > bound))
        out, inner = step_if(good, self.inner, updates, state.inner_state, params, extra)
        taken = _with(state, jnp.where(known, jnp.minimum(x, bound), x), scalar(self.decay))
        count, mean, deviation = (
            jnp.where(finite, new, old) for new, old in zip(taken, state[:3], strict=True)
        )
        skipped = jnp.where(good, state.skipped, next_count(state.skipped))
        return out, SkipSpikesState(count, mean, deviation, skipped, inner)

    def _watched(self, updates: PyTree, extra: dict[str, Any]) -> jax.Array:
        """The norm or the loss, whose largest finite number stands for a norm that overflows."""
        if self.of == "value":
            if extra.get("value") is None:
                raise ValueError(
                    "`skip_spikes(of='value')` needs the loss: call "
                    "`update(updates, state, params, value=loss)`."
                )
            return scalar(extra["value"])
        return step_norm(updates, self.axis_name).value

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def _with(state: Any, x: jax.Array, decay: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Count, mean and deviation with one more value."""
    count = next_count(state.count)
    rate = jnp.maximum(1 - decay, 1 / scalar(count))
    mean = state.mean + (rate * x - rate * state.mean)
    largest = jnp.finfo(x.dtype).max
    away = jnp.clip(x - state.mean, -largest, largest)
    # The variance is s + w (d^2 - s) for the deviation from the new mean; written with the one from the
    # old mean it cannot become negative.
    return count, mean, combined(1 - rate, state.deviation, (1 - rate) * rate, away)

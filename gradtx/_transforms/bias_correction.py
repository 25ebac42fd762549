"""Bias correction: moments that start at zero, brought to the size of what they average."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.elementwise import Elementwise, Wrapper, next_count
from gradtx._core.values import Hyper
from gradtx._transforms.moments import log


class BiasCorrectionState(NamedTuple):
    """Steps taken; for a scheduled decay the logarithm of the start's remaining weight, as the sum and
    what rounding took from it (shape (2,)), else empty; and the moment's state."""

    count: Any
    log_kept: Any
    inner: Any


class bias_correction(Wrapper):
    r"""A moment divided by its gain, so that a constant gradient comes out unchanged.

    $$ \hat m_t = \frac{m_t}{1 - \prod_{s \le t} b_s}, \qquad 1 - b^t = -\operatorname{expm1}(t
       \operatorname{log1p}(-(1 - b))) $$

    `inner` is `scale_by_momentum`, `second_moment` or a `running_max` of it; the gain of a heavy ball
    is $(1 - b^t)/(1 - b)$ and that of a Nesterov average $1 - b^{t+1}$. Within 5e-7 (relative) from
    the first step on, also past step $2^{31}$; for a start at zero. Raises `TypeError` for anything
    that has no such gain (a centred variance) and for a heavy ball whose decay is scheduled. Source:
    Kingma & Ba, 2014, arXiv:1412.6980, section 3.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.bias_correction(gradtx.scale_by_momentum(0.9))
    >>> u, state = tx.update(jnp.full((), 2.0), tx.init(jnp.zeros(())))
    >>> float(u), float(gradtx.get(state, "mu"))
    (2.0, 0.2)
    """

    def validate(self) -> None:
        super().validate()
        if not hasattr(self.inner, "gain"):
            raise TypeError(
                f"`bias_correction` divides a moment by its gain, and `{self.inner!r}` has none. Wrap "
                "`scale_by_momentum(...)` or `second_moment(...)` before taking roots or quotients."
            )
        moment = _moment(self.inner)
        if isinstance(moment.decay, float) and moment.decay == 1:
            raise ValueError(f"`bias_correction({self.inner!r})`: a sum has no gain to divide by.")
        if callable(moment.decay) and getattr(moment, "form", "ema") != "ema":
            raise TypeError(
                f"`bias_correction({self.inner!r})`: only an average has a gain under a schedule."
            )

    def init_shared(self) -> BiasCorrectionState:
        log_kept = np.zeros(2, scalar_dtype()) if callable(_moment(self.inner).decay) else ()
        return BiasCorrectionState(np.int32(0), log_kept, self.inner.init_shared())

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        inner, acting = self.inner.advance(shared.inner, look)
        count = next_count(shared.count)
        moment = _moment(acting)
        if callable(_moment(self.inner).decay):
            log_kept = compensated_add(shared.log_kept, log(moment.decay))
            total = log_kept[0]
        else:
            log_kept, total = (), scalar(count) * log(moment.decay)
        acting = bias_corrected(acting, moment.gain(total, moment.decay))
        return BiasCorrectionState(count, log_kept, inner), acting

    def init_leaf(self, param: Any) -> BiasCorrectionState:
        log_kept = None if callable(_moment(self.inner).decay) else ()
        return BiasCorrectionState(None, log_kept, self.inner.init_leaf(param))


class bias_corrected(Wrapper):
    """`bias_correction` at one step: the moment divided by a known gain."""

    gain: Hyper

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, inner = self.inner.update_leaf(update, state.inner, param)
        return update / self.gain, state._replace(inner=inner)


def _moment(tx: Any) -> Any:
    """The moment inside its wrappers."""
    while isinstance(tx, Wrapper):
        tx = tx.inner
    return tx


def compensated_add(total: jax.Array, x: jax.Array) -> jax.Array:
    """`total`, a sum and what rounding took from it, with `x` added to it."""
    # Kahan, 1965: a plain float32 sum of logarithms would lose the corrections that it is there for.
    y = x - total[1]
    new = total[0] + y
    lost = jnp.where(jnp.isfinite(new), (new - total[0]) - y, jnp.zeros_like(new))
    return jnp.stack([new, lost])

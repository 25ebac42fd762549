"""The share of updates that rounding takes back, so that the parameter does not move."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from gradtx._core.measure import Measure
from gradtx._core.rounding import nearest


class rounded_away(Measure):
    r"""The share of updates other than 0 that do not change their parameter, because it is rounded.

    $$ \frac{\#\{i : u_i \neq 0,\ \mathrm{round}(\theta_i + u_i) = \theta_i\}}{\#\{i : u_i \neq 0\}} $$

    A bfloat16 parameter does not move if its update is smaller than 1/512 of it, and moves for certain
    only from 1/256 on. So with bfloat16 parameters, tap the end of the optimizer:
    `chain(adamw(1e-4), tap("step", rounded_away(per="layer")))`. If the share is large, use
    `master_weights`, `compensated` or `apply_updates(..., rounding="stochastic")`. Behind
    `master_weights` or `compensated`, the share says which parameters did not move in this step, but
    nothing is lost there.

    Args:
        dtype: the dtype to which parameters are rounded. None means the dtype of each parameter. With
            "bfloat16", a run in float32 shows what it would lose in bfloat16.
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Raises:
        TypeError: if `dtype` is not the name of a dtype.
        ValueError: if `per` is something else, or if `update` is called without the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1e-3), gradtx.tap("step", gradtx.rounded_away()))
    >>> params = jnp.array([1.0, 0.1], jnp.bfloat16)
    >>> _, state = tx.update(jnp.ones(2), tx.init(params), params)
    >>> float(gradtx.readings(state)["step/rounded_away"])
    0.5
    """

    dtype: DTypeLike | None = None

    def at_leaf(self, path: str, leaf: Any) -> "rounded_away":
        own = self.dtype is None or jnp.iscomplexobj(leaf)
        return self._with(dtype=jnp.dtype(leaf.dtype).name) if own else self

    def entries(self, update: jax.Array, param: Any, gradient: jax.Array) -> Any:
        param, moved = param.astype(update.dtype), update != 0
        before, after = param, param + update
        if jnp.finfo(self.dtype).nmant < jnp.finfo(update.dtype).nmant:
            before, after = nearest(before, self.dtype), nearest(after, self.dtype)
        real = jnp.finfo(update.dtype).dtype
        return (moved & (after == before)).astype(real), moved.astype(real)

    def value(self, *sums: jax.Array) -> jax.Array:
        lost, count = sums
        return lost / jnp.maximum(count, 1)

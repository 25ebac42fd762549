"""A learning rate that falls when the loss stops falling."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib

from gradtx._core.dtypes import scalar, scalar_dtype
from gradtx._core.latex import Page, Tex, times
from gradtx._core.layout import shared
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class reduce_on_plateau(Elementwise):
    r"""The update is multiplied by a factor that falls whenever the loss has stopped falling.

    $$ u = s\, g, \qquad s \leftarrow \max(s\, f, s_{\min}) $$

    The scale $s$ starts at 1. It falls after `patience` evaluations in a row that did not improve the
    best value so far. The link stands after the optimizer in a chain, and the loss is passed to
    `update` as `value`:

        tx = chain(adamw(1e-3), reduce_on_plateau(patience=10))
        updates, state = tx.update(grads, state, params, value=loss)

    Every number may be an array under `vmap`.

    Args:
        factor: $f$, by which the scale is multiplied, in (0, 1).
        patience: after how many evaluations without an improvement the scale falls, 1 or more.
        rtol: a value is an improvement if it is below `(1 - rtol) * best - atol`; in [0, 1].
        atol: see `rtol`, 0 or more.
        cooldown: how many evaluations after a fall do not count, 0 or more.
        accumulation_size: how many steps one evaluation takes; its value is the mean over these steps.
            Take 1 if `value` is the loss of a validation set, and more if it is the loss of a batch.
        min_scale: $s_{\min}$, in [0, 1].

    The state is `optax.contrib.ReduceLROnPlateauState(scale, best_value, plateau_count, cooldown_count,
    count, avg_value)`. `gradtx.get(state, "scale")` reads the scale, and
    `gradtx.set(state, scale=1.0)` sets it.

    Raises:
        ValueError: if a number lies outside its interval, if `rtol` and `atol` are both 0, or if
            `update` is called without `value`.

    Source: PyTorch, 2017, `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.sgd(1.0), gradtx.reduce_on_plateau(0.5, patience=1))
    >>> state = tx.init(jnp.zeros(()))
    >>> for loss in (3.0, 2.0, 2.0):
    ...     u, state = tx.update(jnp.ones(()), state, value=loss)
    >>> float(u), float(gradtx.get(state, "scale"))
    (-0.5, 0.5)
    """

    factor: Hyper = 0.1
    patience: Hyper = 10
    rtol: Hyper = 1e-4
    atol: Hyper = 0.0
    cooldown: Hyper = 0
    accumulation_size: Hyper = 1
    min_scale: Hyper = 0.0
    limits = {
        "factor": "(0, 1)",
        "patience": "[1, inf)",
        "rtol": "[0, 1]",
        "atol": "[0, inf)",
        "cooldown": "[0, inf)",
        "accumulation_size": "[1, inf)",
        "min_scale": "[0, 1]",
    }
    linear = True

    def validate(self) -> None:
        rates = self.rtol, self.atol
        if all(isinstance(x, float) and x == 0 for x in rates):
            raise ValueError(
                "`reduce_on_plateau(rtol=0.0, atol=0.0)` would count every smaller value as an "
                "improvement, however little it differs. Let one of the two be positive."
            )

    def init_leaf(self, param: Any) -> Any:
        return optax.contrib.ReduceLROnPlateauState(
            scale=shared(1.0),  # pyright: ignore[reportArgumentType]
            best_value=shared(np.inf),  # pyright: ignore[reportArgumentType]
            plateau_count=shared(0),  # pyright: ignore[reportArgumentType]
            cooldown_count=shared(0),  # pyright: ignore[reportArgumentType]
            count=shared(0),  # pyright: ignore[reportArgumentType]
            avg_value=shared(0.0),  # pyright: ignore[reportArgumentType]
        )

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        if extra.get("value") is None:
            raise ValueError(
                "`reduce_on_plateau` needs the loss: call `update(updates, state, params, value=loss)`."
            )
        if jnp.ndim(extra["value"]):
            raise ValueError(
                "`reduce_on_plateau`: `update(value=...)` must be one number, not an array of shape "
                f"{jnp.shape(extra['value'])}. Pass the mean of the losses."
            )
        return jnp.asarray(extra["value"]).astype(scalar_dtype())

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        count = state.count + 1
        mean = (scalar(state.count) * state.avg_value + measured) / scalar(count)
        gathering = state._replace(count=count, avg_value=mean)
        whole = scalar(count) >= self.accumulation_size
        new = jax.tree.map(
            lambda a, b: jnp.where(whole, a, b), self._evaluated(gathering), gathering
        )
        return new, new.scale

    def _evaluated(self, state: Any) -> Any:
        """The state after an evaluation, whose value is `avg_value`."""
        improved = state.avg_value < (1 - self.rtol) * state.best_value - self.atol
        zero = jnp.zeros_like(state.count)
        bad = jnp.where(improved, zero, state.plateau_count + 1)
        cools = state.cooldown_count > 0
        falls = (scalar(bad) >= self.patience) & ~cools
        lower = jnp.maximum(state.scale * self.factor, scalar(self.min_scale))
        pause = jnp.asarray(self.cooldown).astype(zero.dtype)
        return state._replace(
            scale=jnp.where(falls, lower, state.scale),
            best_value=jnp.where(improved, state.avg_value, state.best_value),
            plateau_count=jnp.where(falls | cools, zero, bad),
            cooldown_count=jnp.where(
                cools, state.cooldown_count - 1, jnp.where(falls, pause, zero)
            ),
            count=zero,
            avg_value=jnp.zeros_like(state.avg_value),
        )

    def update_leaf(
        self, update: jax.Array, state: Any, param: Any, scale: Any
    ) -> tuple[jax.Array, Any]:
        return scale * update, state

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes.setdefault("s_t", r"\text{: the scale, which falls when the loss stops falling}")
        return times(Tex("s_t"), g)

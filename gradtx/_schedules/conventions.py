"""Schedules, as values, that turn one convention into another.

What looks like another algorithm is often the same one with a number that changes over the steps.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.numerics import log
from gradtx._core.values import Hyper, Value


class _Constants(Value):
    """A schedule all of whose numbers are constants."""

    def validate(self) -> None:
        for name in self._data:
            if callable(getattr(self, name)):
                raise TypeError(f"`{type(self).__name__}({name}=...)` cannot be a schedule.")

    def __call__(self, count: Any) -> jax.Array:
        """The value after `count` steps."""
        raise TypeError(f"`{type(self).__name__}` does not define `__call__`.")


class eps_hat(_Constants):
    r"""Adam's epsilon beside an uncorrected root: $\hat\epsilon / \sqrt{1 - b^{t+1}}$ after $t$ steps.

    $\hat m / (\sqrt{\hat v} + \epsilon_t)$ with this epsilon is
    $\alpha_t\, m / (\sqrt v + \hat\epsilon)$, $\alpha_t = \sqrt{1 - b_2^t} / (1 - b_1^t)$, which is what
    Keras computes.

    Args:
        eps: $\hat\epsilon \ge 0$.
        decay: $b$ of the second moment, in [0, 1).

    Raises `ValueError` for a number outside its interval, `TypeError` for a schedule. Source: Kingma &
    Ba, 2014, arXiv:1412.6980, end of section 2.

    >>> import gradtx
    >>> float(gradtx.eps_hat(1e-8, 0.75)(0))
    2e-08
    """

    eps: Hyper
    decay: Hyper
    limits = {"eps": "[0, inf)", "decay": "[0, 1)"}

    def __call__(self, count: Any) -> jax.Array:
        gain = -jnp.expm1((scalar(count) + 1) * log(self.decay))
        return scalar(self.eps) / jnp.sqrt(gain)


class dampened(_Constants):
    r"""What torch multiplies gradients by under `dampening`: 1 for the first, then $1 - d$.

    Its momentum buffer starts as the first gradient, which is not dampened.

    Args:
        dampening: $d$, in [0, 1].

    Raises `ValueError` for another number, `TypeError` for a schedule.
    """

    dampening: Hyper
    limits = {"dampening": "[0, 1]"}

    def __call__(self, count: Any) -> jax.Array:
        return jnp.where(count == 0, scalar(1.0), scalar(1 - self.dampening))


class inverse_time(_Constants):
    r"""$1 / (1 + d\, t)$ after $t$ steps: torch's `lr_decay` in AdaGrad.

    Args:
        decay_rate: $d \ge 0$.

    Raises `ValueError` for a negative one, `TypeError` for a schedule.
    """

    decay_rate: Hyper
    limits = {"decay_rate": "[0, inf)"}

    def __call__(self, count: Any) -> jax.Array:
        return 1 / (1 + scalar(self.decay_rate) * scalar(count))

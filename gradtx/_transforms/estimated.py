"""What optimizers that estimate a distance share: the rate of a step, and how the estimate grows."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import THETA, Page, Tex, fraction, plus, sqrt as sqrt_tex, square, times
from gradtx._core.numerics import log, sqrt
from gradtx._core.schedule import at_step
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.varying import counter, deciding_axes

# Gradients are at most 2^63 here, since they are bounded so that they can be squared.
_LARGEST = 2.0**60


class Estimated(Transform):
    """What both share: the rate of a step, and what it needs."""

    asks_schedules = False  # the state has a count of its own
    degrees = {"exp_avg": 1, "exp_avg_sq": 2}

    def validate(self) -> None:
        betas: Any = self.betas  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(betas, tuple) or len(betas) != 2:
            raise ValueError(f"`{type(self).__name__}(betas={betas!r})` must be a pair of decays.")
        for decay in betas:
            if isinstance(decay, int | float) and not 0 <= decay < 1:
                raise ValueError(
                    f"`{type(self).__name__}(betas={betas!r})`: every decay must lie in [0, 1)."
                )

    def scalars(self, params: PyTree) -> tuple[Any, jax.Array]:
        """The mesh axes over which the estimate may differ, and the first estimate."""
        own: Any = self
        axes = deciding_axes(params, own.axis_name, own.betas, own.estim_lr0, own.learning_rate)
        return axes, counter(axes, scalar(own.estim_lr0))

    def rate(self, state: Any, params: PyTree) -> jax.Array:
        """The learning rate of this step in units of the estimate."""
        own: Any = self
        name = type(self).__name__
        if params is None:
            raise ValueError(
                f"`{name}` measures how far the parameters have come, so it needs the parameters: call "
                "`update(updates, state, params)`."
            )
        rate = scalar(at_step(own.learning_rate, state.count, f"{name}(learning_rate=...)"))
        if not own.bias_correction:
            return rate
        t = scalar(state.count) + 1
        below, above = (-jnp.expm1(t * log(decay)) for decay in own.betas)
        return rate * jnp.sqrt(above) / below

    def tex_of(self, g: Tex, page: Page, name: str, *, scaled: bool) -> Tex:
        """The update of Adam with an estimated rate.

        Args:
            g: the incoming updates.
            page: the page of definitions.
            name: the name of the method.
            scaled: whether Adam sees the gradient times the estimate, or the average has the rate.
        """
        own: Any = self
        d = Tex("d_t")
        page.notes["d_t"] = rf"\text{{: the distance that {name} estimates}}"
        first, second = (page.number(x, r"\beta") for x in own.betas)
        rate = times(d, page.number(own.learning_rate, "l"))
        if own.bias_correction:
            gains = [plus(Tex("1"), Tex(rf"{x.within(2)}^{{t}}"), "-") for x in (first, second)]
            rate = times(rate, fraction(sqrt_tex(gains[1]), gains[0]))
        rate = page.define(r"\eta", lambda _: rate)
        eps = page.number(own.eps, r"\epsilon")
        g = page.symbol(times(d, g)) if scaled else page.symbol(g)
        m = page.average("m", own.betas[0], g if scaled else times(rate, g))
        v = page.average("v", own.betas[1], square(g))
        step = fraction(m, plus(sqrt_tex(v), times(Tex("d_{t+1}"), eps) if scaled else eps))
        step = times(rate, step) if scaled else step
        return plus(step, times(times(rate, page.number(own.weight_decay, r"\lambda")), THETA))


def times_array(factor: Any, x: jax.Array) -> jax.Array:
    """A scalar times an array, in the dtype of the array."""
    return factor.astype(x.dtype) * x


def quotient(m: jax.Array, v: jax.Array, eps: jax.Array) -> jax.Array:
    """Adam's quotient, which is 0 where both of its parts are."""
    below = sqrt(v) + eps.astype(v.dtype)
    return m / jnp.where(below == 0, jnp.ones_like(below), below).astype(m.dtype)


def grown(d: jax.Array, above: jax.Array, below: jax.Array) -> jax.Array:
    """The larger one of an estimate and the next, which is a quotient.

    Where the gradient never changes, each estimate is larger than the one before. The estimate stops at
    a size whose product with a gradient is finite.
    """
    some = below > 0
    after = jnp.where(some, above / jnp.where(some, below, 1), jnp.zeros_like(d))
    return jnp.maximum(d, jnp.where(after > _LARGEST, d, after))


def clamped(x: jax.Array) -> jax.Array:
    """A number that has overflowed as the largest finite one, from which an average can come back."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)

"""`over_residual`: an update is divided by the size of what it leaves of the gradient."""

from typing import Any, NamedTuple

from gradtx._compose.chain import chain, identity
from gradtx._compose.once import once
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.lowering import Lowering
from gradtx._core.places import Named
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform


class OverResidualState(NamedTuple):
    """The state of `over_residual`: the states of `inner` and of `size`."""

    inner: Any
    size: Any


class over_residual(Recipe):
    r"""The update of a transformation is divided by the size of what this update leaves of the gradient.

    $$ u = \frac{f(g)}{h(g - f(g))} $$

    If $f$ is a momentum and $h$ a root mean square, then steps are large where gradients agree with
    their average. A quotient is 0 where its denominator is 0.

    Args:
        inner: the transformation $f$, of gradtx or of Optax, such as a momentum.
        size: the transformation $h$, such as the root of a second moment.

    The state is `OverResidualState(inner, size)`.

    Raises:
        TypeError: if `inner` or `size` is not a transformation.

    Sources: Luo et al., 2023, arXiv:2307.02047, algorithm 2 (CAME); Zhuang et al., 2020,
    arXiv:2010.07468 (AdaBelief).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.over_residual(gradtx.scale(0.75), gradtx.rms(0.0))
    >>> float(tx.update(jnp.full((), -8.0), tx.init(jnp.zeros(())))[0])  # -6 / root(4)
    -3.0
    """

    inner: AsTransform
    size: AsTransform
    linear = (
        False  # the gradient and what is subtracted are both large, and their difference overflows
    )

    def expand(self) -> Transform:
        made = once(self.inner)
        return made / chain(identity() - made, self.size)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        stream, state = super().lower(low, stream)
        inner, (_, size) = state
        return stream, Named(OverResidualState(inner, size), state)

"""`over_residual`: an update is divided by the size of what it leaves of the gradient."""

from typing import Any, NamedTuple

from gradtx._compose.fanout import joined
from gradtx._compose.iterates import check_around
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import Page, Tex, fraction, plus
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform


class OverResidualState(NamedTuple):
    """The state of `over_residual`: the states of `inner` and of `size`."""

    inner: Any
    size: Any


class over_residual(Transform):
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
    linear = False

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        check_around(self, self.inner)
        check_around(self, self.size)
        # Both are large where the gradient is, so that their difference could overflow.
        stream = low.bounded(low.compute(stream) if self.whole else stream)
        made, inner = low.lower(self.inner, stream)
        rest = joined(low, "subtract", stream, made)
        size, state = low.lower(self.size, rest)
        return joined(low, "divide", made, size), OverResidualState(inner, state)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        made = page.symbol(self.inner.tex(g, page))
        return fraction(made, self.size.tex(plus(g, made, "-"), page))

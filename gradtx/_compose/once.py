"""`once`: a transformation that several branches use, and that is computed once."""

from typing import Any

import optax

from gradtx._compose.iterates import check_around
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import BOUNDED, SQUARABLE, Stream


class once(Wrapper):
    r"""A transformation that is computed once where several branches contain it.

    $$ u = f(g) $$

    Two branches of a `fanout` see the same gradients. If both contain `once(f)`, then $f$ is computed
    once and has one state, which stands at the first of these places; at the others stands
    `optax.EmptyState()`. Without `once`, each branch has a state of its own, with equal contents.

    Where the gradients at two places differ, such as after another transformation, `once(f)` changes
    nothing, and each place has its own state.

    Args:
        inner: $f$, a transformation.

    The state is the state of `inner`, or `optax.EmptyState()`.

    Raises:
        TypeError: if `inner` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> mean = gradtx.once(gradtx.scale_by_momentum(0.5))
    >>> tx = mean + gradtx.chain(mean, gradtx.scale_by_sign())
    >>> tx.init(jnp.zeros(1))
    (MomentumState(mu=Array([0.], dtype=float32)), (EmptyState(), EmptyState()))
    """

    linear = as_inner
    keeps_updates = True  # those of `inner`

    @property
    def keeps_zero(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.keeps_zero

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        check_around(self, self.inner)
        # The branches that square gradients see them bounded. This does not make them other gradients.
        key = "computed once", self, tuple(map(_unbounded, stream))
        first: list[Stream] = low.once(key, list)
        if first:
            return first[0], optax.EmptyState()
        out, state = low.lower(self.inner, stream)
        # Where arrays are needed between the branches, the pass that computes them must not compute the
        # terms of `inner` again.
        first.append(low.compute(out) if low.whole_fanouts else out)
        return first[0], state

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def _unbounded(term: Any) -> Any:
    return term.args[0] if term is not None and term.tx in (BOUNDED, SQUARABLE) else term

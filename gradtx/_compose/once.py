"""`once`: a transformation that several branches use, and that is computed once."""

from typing import Any

import jax
import optax

from gradtx._compose.iterates import check_around
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import BOUNDED, SQUARABLE, Stream


class once(Wrapper):
    r"""A transformation that is computed once where several branches contain it.

    $$ u = f(g) $$

    Two branches of a `fanout` see the same gradients. If both contain `once(f)`, then $f$ is
    computed once and has one state, which stands at the first of these places; at the others stands
    `optax.EmptyState()`. Without `once`, each branch has a state of its own, with equal contents.

    Where the gradients at two places differ, such as after another transformation, `once` changes
    nothing, and each place has its own state. In a recipe, names are those of this recipe alone.

    Args:
        inner: $f$, a transformation.
        name: what the two places have in common. Several transformations need several names. If the
            numbers of $f$ are swept or traced, those of the first place count.

    The state is the state of `inner`, or `optax.EmptyState()`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if two different transformations have one name, as far as their numbers are known.

    >>> import gradtx, jax.numpy as jnp
    >>> mean = gradtx.once(gradtx.scale_by_momentum(0.5))
    >>> tx = mean + gradtx.chain(mean, gradtx.scale_by_sign())
    >>> tx.init(jnp.zeros(1))
    (MomentumState(mu=Array([0.], dtype=float32)), (EmptyState(), EmptyState()))
    """

    name: str = ""
    linear = as_inner
    keeps_updates = True  # those of `inner`

    @property
    def keeps_zero(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.keeps_zero

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        check_around(self, self.inner)
        # Whether places agree is decided by names and not by numbers, since two equal numbers may be two
        # arguments of a jitted function. The branches that square gradients see them bounded, which does
        # not make them other gradients.
        recipes = tuple(low.once("recipes", list))
        given = tuple(_unbounded(low, i, term) for i, term in enumerate(stream))
        first = low.once(("once", self.name, recipes, given), list)
        if first:
            self._check(first[0])
            return first[1], optax.EmptyState()
        out, state = low.lower(self.inner, stream)
        # Where arrays are needed between the branches, the pass that computes them must not compute the
        # terms of `inner` again.
        first += [self.inner, low.compute(out) if low.whole_fanouts else out]
        return first[1], state

    def _check(self, other: Any) -> None:
        """Check that the transformation at the first place is not a different one."""
        (mine, structure), (known, first) = map(jax.tree.flatten, (self.inner, other))
        numbers = [(a, b) for a, b in zip(mine, known, strict=False) if type(a) is type(b) is float]
        if structure != first or any(a != b for a, b in numbers):
            raise ValueError(
                f"Two different transformations have one name, {self.name!r}: `once({other!r})` and "
                f"`once({self.inner!r})`. Give each a name of its own: `once(inner, name)`."
            )

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def _unbounded(low: Lowering, i: int, term: Any) -> Any:
    """The term of leaf `i` before it was clipped, also if the clipped entries were computed already."""
    if term is None:
        return None
    clipped = term
    if term.register >= 0:
        stream = low.once(("computed", term.register), lambda: None)
        clipped = term if stream is None else stream[i]
    if clipped.tx is BOUNDED or clipped.tx is SQUARABLE:
        return _unbounded(low, i, clipped.args[0])
    return term

"""Serial composition. Together with `fanout` it builds the known optimizers from a few transformations.

    SGD        scale_by_learning_rate(lr)
    momentum   chain(scale_by_momentum(b, form="heavy_ball"), scale_by_learning_rate(lr))
    RMSProp    chain(identity() / (rms(b2) + eps), scale_by_learning_rate(lr))
    Adam       chain(m / (root(v) + eps), scale_by_learning_rate(lr)), where
                   m = bias_correction(scale_by_momentum(b1)) and v = bias_correction(second_moment(b2))
    LaProp     chain(identity() / (root(v) + eps), m, scale_by_learning_rate(lr))
    Muon       chain(scale_by_momentum(b, nesterov=True), orthogonalize_newton_schulz(),
                   scale_by_shape(), scale_by_learning_rate(lr))

Adam is a quotient and not a chain, because its momentum and its root mean square both see the gradient.
If the momentum follows the quotient in a chain, it sees the quotient instead, and the result is LaProp.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import optax

from gradtx._compose.iterates import check_links
from gradtx._core.authors import described
from gradtx._core.foreign import Inside, as_transform
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise


class identity(Elementwise):
    """Return the gradients unchanged, $u = g$.

    It is the neutral element of `chain`. It has no state and raises nothing.
    """

    linear = True
    keeps_zero = True
    keeps_updates = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return update, state

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        return stream, optax.EmptyState()

    def tex(self, g: Tex, page: Page) -> Tex:
        return g


class chain(Transform):
    """Serial composition, where the output of each link is the input of the next one.

    $$ u = f_n(\\dots f_2(f_1(g))) $$

    Args:
        links: the transformations $f_1, \\dots, f_n$ of gradtx or of Optax, each as an argument of its
            own: `chain(a, b, c)`.

    The state is the tuple of the links' states. Elementwise links that follow each other share one pass
    over the leaves.

    Raises:
        TypeError: if a link is not a transformation, if the links were passed as one list, or if a link
            changes the updates of a link before it that averages the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.scale(-0.1))
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.05, -0.1 ], dtype=float32)
    """

    links: tuple[Inside, ...]
    keeps_zero = True  # without links

    def __init__(
        self,
        *args: optax.GradientTransformation,
        links: Sequence[optax.GradientTransformation] | None = None,
    ) -> None:
        links = args if links is None else links
        if not isinstance(links, Sequence):
            raise TypeError(
                f"`chain(links=...)` must be a list of transformations, not {described(links)}."
            )
        if len(links) == 1 and (type(links[0]) in (list, tuple) or isinstance(links[0], Iterator)):
            raise TypeError(
                "`chain` takes each link as an argument of its own: write `chain(a, b)`, or "
                "`chain(*links)` for a list of links."
            )
        object.__setattr__(self, "links", tuple(as_transform(x, "chain(...)") for x in links))
        self.__post_init__()

    def validate(self) -> None:
        check_links(self.links)

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.links))})"

    @property
    def ignores_updates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(link.ignores_updates for link in self.links)

    @property
    def linear(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        # What follows a link that ignores the gradients squares no gradient.
        for link in self.links:
            if link.ignores_updates or not link.linear:
                return link.linear
        return bool(self.links)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        states = []
        for link in self.links:
            stream, state = low.lower(link, stream)
            states.append(state)
        return stream, tuple(states)

    def tex(self, g: Tex, page: Page) -> Tex:
        for link in self.links:
            g = link.tex(g, page)
        return g

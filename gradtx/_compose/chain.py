"""Composition: serial and parallel. With it the known optimizers come apart into a few pieces.

    SGD        scale_by_learning_rate(lr)
    momentum   chain(scale_by_momentum(b, form="heavy_ball"), scale_by_learning_rate(lr))
    RMSProp    chain(identity() / (rms(b2) + eps), scale_by_learning_rate(lr))
    Adam       chain(m / (root(v) + eps), scale_by_learning_rate(lr)), where
                   m = bias_correction(scale_by_momentum(b1)) and v = bias_correction(second_moment(b2))
    LaProp     chain(identity() / (root(v) + eps), m, scale_by_learning_rate(lr))
    Muon       chain(scale_by_momentum(b, nesterov=True), orthogonalize_newton_schulz(),
                   scale_by_shape(), scale_by_learning_rate(lr))

Adam is not a chain: momentum and root mean square both see the gradient, and the update is their
quotient. In a serial chain the momentum would see the quotient; that is LaProp.
"""

from typing import Any

import jax

from gradtx._core.elementwise import Elementwise
from gradtx._core.foreign import as_transform
from gradtx._core.leafwise import init_elementwise, update_elementwise
from gradtx._core.trees import PyTree
from gradtx._core.values import Part


class identity(Elementwise):
    """Updates pass as they are: $u = g$, the unit of `chain`. It has no state and raises nothing."""

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return update, state


class Composition(Elementwise):
    """What serial and parallel composition share: parts, and a state that is the tuple of theirs."""

    @property
    def parts(self) -> tuple[Any, ...]:
        """The transformations that this one is made of."""
        raise TypeError(f"`{type(self).__name__}` defines no `parts`.")

    def _of(self, parts: list[Any]) -> Any:
        """The same composition of other parts, not validated."""
        raise TypeError(f"`{type(self).__name__}` defines no `_of`.")

    @property
    def squares(self) -> bool:  # pyright: ignore
        return any(part.squares for part in self.parts)

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return any(part.needs_params for part in self.parts)

    def working(self) -> Any:
        return self._of([part.working() for part in self.parts])

    def init_shared(self) -> Any:
        return tuple(part.init_shared() for part in self.parts)

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        looks = look or [None] * len(self.parts)
        steps = [p.advance(s, x) for p, s, x in zip(self.parts, shared, looks, strict=True)]
        return tuple(shared for shared, _ in steps), self._of([acting for _, acting in steps])

    def look(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        return [part.look(updates, params, extra) if part.looks else None for part in self.parts]

    def marks(self, params: PyTree) -> list[Any] | None:
        marks = [part.marks(params) for part in self.parts]
        if all(mark is None for mark in marks):
            return None
        size = max(len(mark) for mark in marks if mark is not None)
        return list(zip(*([None] * size if mark is None else mark for mark in marks), strict=True))

    def marked(self, mark: Any) -> Elementwise:
        return self._of(
            [
                part if m is None else part.marked(m)
                for part, m in zip(self.parts, mark, strict=True)
            ]
        )

    def init_leaf(self, param: Any) -> Any:
        return tuple(part.init_leaf(param) for part in self.parts)

    def init_tree(self, params: PyTree) -> Any:
        work = self.working()
        if work.elementwise:
            return init_elementwise(work, params)
        return tuple(part.init_tree(params) for part in work.parts)


class chain(Composition):
    """Serial composition: each link's output is the next one's input, $u = f_n(\\dots f_1(g))$.

    `chain(a, b, c)`; `links` may be Optax transformations. The state is the tuple of the links' states.
    Neighbouring elementwise links share one pass over the leaves. Raises `TypeError` for a link that
    is no transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.clip(1.0), gradtx.scale(-0.1))
    >>> tx.update(jnp.array([0.5, 3.0]), tx.init(jnp.zeros(2)))[0]
    Array([-0.05, -0.1 ], dtype=float32)
    """

    links: tuple[Part, ...]

    def __init__(self, *args: Any, links: Any = None) -> None:
        links = args if links is None else links
        object.__setattr__(self, "links", tuple(as_transform(x, "chain(...)") for x in links))
        self.__post_init__()

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, self.links))})"

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.links

    def _of(self, parts: list[Any]) -> Any:
        return self._with(links=tuple(parts))

    @property
    def elementwise(self) -> bool:  # pyright: ignore
        return len(self._runs()) <= 1 and all(link.elementwise for link in self.links)

    @property
    def looks(self) -> bool:  # pyright: ignore
        return bool(self.links) and self.links[0].looks

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        states = []
        for link, inner in zip(self.links, state, strict=True):
            update, inner = link.update_leaf(update, inner, param)
            states.append(inner)
        return update, tuple(states)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        work = self.working()
        if work.elementwise:
            return update_elementwise(work, updates, state, params, extra)
        states = []
        for run in work._runs():
            inner = state[len(states) : len(states) + len(run)]
            if len(run) > 1:
                updates, inner = self._of(run).update_tree(updates, inner, params, extra)
            else:
                updates, *inner = run[0].update_tree(updates, inner[0], params, extra)
            states.extend(inner)
        return updates, tuple(states)

    def _runs(self) -> list[list[Any]]:
        """The links in runs that can share one pass; one that looks at the whole tree starts a run."""
        runs: list[list[Any]] = []
        for link in self.links:
            if runs and link.elementwise and not link.looks and runs[-1][-1].elementwise:
                runs[-1].append(link)
            else:
                runs.append([link])
        return runs

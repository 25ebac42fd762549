"""One step of `in_basis`: the gradients teach the basis, and the transformation inside acts."""

import functools
from collections.abc import Iterator
from typing import Any, cast

import jax

from gradtx._bases.arithmetic import as_before, structure_of_state
from gradtx._bases.leaf import basis_leaves
from gradtx._bases.shared import shared_leaves
from gradtx._core.branches import choose
from gradtx._core.carry import carried_slots, carried_trees, cells_of_state
from gradtx._core.random_bits import seed_of


class Step:
    """One step of `in_basis`: the states of the basis, leaf by leaf, and the state of `inner`.

    Args:
        tx: the transformation.
        gradients: the gradient of every leaf, or None.
        params: the parameters, or None.
        structure: the structure of their tree.
        state: the state of the transformation.
    """

    def __init__(
        self, tx: Any, gradients: list[Any], params: Any, structure: Any, state: Any
    ) -> None:
        owned = gradients if params is None else params
        self.tx, self.owned, self.structure, self.count = tx, owned, structure, state.count
        self.basis = tx.basis.at(state.count)
        self.leaves: list[Any] = basis_leaves(self.basis, tx.axes, owned, structure)
        self.form = structure_of_state(tx.basis)
        columns = [structure.flatten_up_to(x) for x in self.form.flatten_up_to(state.basis)]
        self.states = [[column[i] for column in columns] for i in range(len(owned))]
        self.inner = state.inner
        inside = [None if x is None else x.inside() for x in self.leaves]
        self.program = tx.inner.program(inside, structure)
        self.shared = shared_leaves(self.basis, self.leaves, gradients, self.states, params)
        self.has_params = params is not None

    def basis_state(self) -> Any:
        """The state of the basis, with a tree in each of its fields."""
        columns = [
            self.structure.unflatten([own[k] for own in self.states])
            for k in range(self.form.num_leaves)
        ]
        return self.form.unflatten(columns)

    def into(self, xs: list[Any]) -> list[Any]:
        """The leaves in their bases."""
        out, alone = self._shared("into", xs)
        for i in alone:
            out[i] = self.leaves[i].into(xs[i], self.states[i])
        return out

    def back(self, ys: list[Any], given: list[Any]) -> list[Any]:
        """Arrays in the bases turned back into leaves, each placed like one that is `given`."""
        out, alone = self._shared("back", ys)
        for i in alone:
            out[i] = self.leaves[i].back(ys[i], self.states[i], given[i])
        return out

    def _shared(self, method: str, xs: list[Any]) -> tuple[list[Any], list[int]]:
        """What the devices share of a method of the basis, and the numbers of the other leaves."""
        out: list[Any] = [None] * len(xs)
        rest = [
            i
            for i, (leaf, x) in enumerate(zip(self.leaves, xs, strict=True))
            if leaf is not None and x is not None
        ]
        for shared in self.shared:
            some = [i for i in rest if i in shared.leaves and shared.turns]
            if some:
                own = [self.states[i] for i in some]
                new = shared.turned(method, some, [xs[i] for i in some], own)
                for i, x in zip(some, new, strict=True):
                    out[i] = x
                rest = [i for i in rest if i not in some]
        return out, rest

    def act(self, signal: list[Any], extra: dict[str, Any]) -> Any:
        """The updates of all leaves, and the new state of `inner`."""
        inside = self.into(signal)
        params = self.into(self.owned) if self.has_params and self.tx.basis.rotation else None
        try:
            out, inner = self.program.update(inside, self.inner, params, extra)
        except ValueError as error:
            if self.has_params and params is None and "needs the parameters" in str(error):
                raise self._no_params(error) from error
            raise
        rows = zip(self.leaves, out, strict=True)
        out = [None if x is None or leaf is None else leaf.placed(x) for leaf, x in rows]
        return self.tx.returned(self, out, inside, signal), inner

    def _no_params(self, error: Exception) -> ValueError:
        return ValueError(
            f"{error} `in_basis(basis={type(self.tx.basis).__name__}(...))` cannot give them to the "
            "transformation inside, since this basis is not known to be a rotation. Put a weight decay, "
            "and whatever else needs the parameters, behind `in_basis` in a chain."
        )

    def learn(self, gradients: list[Any]) -> None:
        """Teach the basis the gradients, and take the state of `inner` into a new basis."""
        tx, old = self.tx, [list(own) for own in self.states]
        leaves = cast("list[Any]", self.leaves)
        carries = tx.on_refresh == "carry" and not tx.basis.is_fixed
        cells = cells_of_state(self.program, self.inner)
        moments = carried_slots(self.program, cells) if carries else {}
        for some, call in self._lessons(gradients, moments):
            kinds = [moments.get(i, []) for i in some]
            own = [[cells[m.cell] for m in each] for each in kinds]
            for i, arrays, each in zip(some, own, kinds, strict=True):
                leaves[i].check_moments(arrays, each)
            # Leaves that are not updated here do not count, so that they change no random number.
            before = [sum(x is not None for x in leaves[:i]) for i in some]
            seeds = [seed_of(self.count, number) for number in before]
            given = [gradients[i] for i in some]
            states, new = call(given, [self.states[i] for i in some], self.count, seeds, own)
            for i, x, arrays, each in zip(some, states, new, kinds, strict=True):
                self.states[i] = x
                cells.update(zip((m.cell for m in each), arrays, strict=True))
        if carries:
            after = self.states

            def carry(i: int, x: Any, degree: int) -> Any:
                return leaves[i].carry(x, degree, old[i], after[i])

            due = self.basis.due(self.count)
            carried_trees(self.program, cells, carry, due)
        self.inner = self.program.layout.unflatten([cells[n] for n in self.program.numbers])
        if tx.on_refresh == "reset" and not tx.basis.is_fixed:
            inside = [None if x is None else x.inside() for x in self.leaves]
            due, kept = self.basis.due(self.count), self.inner
            self.inner = choose(due, lambda: self._begun(inside), lambda: kept)

    def _begun(self, inside: list[Any]) -> Any:
        """The state of `inner` before the first step, which lies as its present state."""
        arrays, structure = jax.tree.flatten(self.program.init(inside))
        return structure.unflatten(as_before(arrays, jax.tree.leaves(self.inner)))

    def _lessons(
        self, gradients: list[Any], moments: dict[int, Any]
    ) -> Iterator[tuple[list[int], Any]]:
        """The numbers of leaves that learn in one call, and a function that teaches them."""
        rest = [
            i
            for i, (leaf, g) in enumerate(zip(self.leaves, gradients, strict=True))
            if leaf is not None and g is not None and g.size
        ]
        for shared in self.shared:
            groups: dict[tuple[int, ...], list[int]] = {}
            for i in (i for i in rest if i in shared.leaves):
                groups.setdefault(tuple(m.degree for m in moments.get(i, ())), []).append(i)
            for degrees, some in groups.items():
                yield some, functools.partial(shared.learn, some, degrees=degrees)
            rest = [i for i in rest if i not in shared.leaves]
        for i in rest:
            kinds = tuple(m.degree for m in moments.get(i, ()))
            yield [i], functools.partial(_alone, self.leaves[i], kinds)


def _alone(leaf: Any, degrees: tuple[int, ...], *lists: Any) -> tuple[list[Any], list[Any]]:
    """What `SharedLeaves.learn` returns, for a leaf by itself."""
    (g,), (state,), step, (seed,), (moments,) = lists
    state, moments = leaf.learn(g, state, step, seed, moments, degrees)
    return [state], [moments]

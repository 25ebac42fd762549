"""One step of `in_basis`: the gradients teach the basis, and the transformation inside acts."""

from typing import Any, cast

from gradtx._bases.arithmetic import structure_of_state
from gradtx._bases.leaf import basis_leaves
from gradtx._core.branches import choose
from gradtx._core.carry import carried_slots, carried_trees, cells_of_state
from gradtx._core.random_bits import seed_of


class Step:
    """One step of `in_basis`: the states of the basis, leaf by leaf, and the state of `inner`."""

    def __init__(self, tx: Any, owned: list[Any], structure: Any, state: Any) -> None:
        self.tx, self.owned, self.structure, self.count = tx, owned, structure, state.count
        self.basis = tx.basis.at(state.count)
        self.leaves = basis_leaves(self.basis, tx.axes, owned, structure)
        self.form = structure_of_state(tx.basis)
        columns = [structure.flatten_up_to(x) for x in self.form.flatten_up_to(state.basis)]
        self.states = [[column[i] for column in columns] for i in range(len(owned))]
        self.inner = state.inner
        inside = [None if x is None else x.inside() for x in self.leaves]
        self.program = tx.inner.program(inside, structure)

    def basis_state(self) -> Any:
        """The state of the basis, with a tree in each of its fields."""
        columns = [
            self.structure.unflatten([own[k] for own in self.states])
            for k in range(self.form.num_leaves)
        ]
        return self.form.unflatten(columns)

    def act(self, signal: list[Any], has_params: bool, extra: dict[str, Any]) -> Any:
        """The updates of all leaves, and the new state of `inner`."""
        rows = list(zip(self.leaves, signal, self.states, strict=True))
        inside = [None if x is None or g is None else x.into(g, own) for x, g, own in rows]
        params = None
        if has_params and self.tx.basis.rotation:
            owned = zip(self.leaves, self.owned, self.states, strict=True)
            params = [None if x is None else x.into(p, own) for x, p, own in owned]
        try:
            out, inner = self.program.update(inside, self.inner, params, extra)
        except ValueError as error:
            if has_params and params is None and "needs the parameters" in str(error):
                raise self._no_params(error) from error
            raise
        rows = zip(self.leaves, out, inside, self.states, signal, strict=True)
        new = [
            None if leaf is None or y is None else self.tx.returned(leaf, y, x, own, g)
            for leaf, y, x, own, g in rows
        ]
        return new, inner

    def _no_params(self, error: Exception) -> ValueError:
        return ValueError(
            f"{error} `in_basis(basis={type(self.tx.basis).__name__}(...))` cannot give them to the "
            "transformation inside, since this basis is not known to be a rotation. Put a weight decay, "
            "and whatever else needs the parameters, behind `in_basis` in a chain."
        )

    def learn(self, gradients: list[Any]) -> None:
        """Teach the basis the gradients, and take the state of `inner` into a new basis."""
        tx, before = self.tx, [list(own) for own in self.states]
        carries = tx.on_refresh == "carry" and not tx.basis.is_fixed
        cells = cells_of_state(self.program, self.inner)
        moments = carried_slots(self.program, cells) if carries else {}
        for i, (leaf, g) in enumerate(zip(self.leaves, gradients, strict=True)):
            if leaf is None or g is None or not g.size:
                continue
            own = moments.get(i, [])
            # Leaves that are not updated here do not count, so that they change no random number.
            seed = seed_of(self.count, sum(x is not None for x in self.leaves[:i]))
            try:
                self.states[i], new = leaf.learn(
                    g, self.states[i], self.count, seed, [cells[m.cell] for m in own], own
                )
            except TypeError as error:
                error.add_note(f"This is the leaf `{leaf.path or '.'}`.")
                raise
            for m, x in zip(own, new, strict=True):
                cells[m.cell] = x
        if carries:
            old, after, leaves = before, self.states, cast("list[Any]", self.leaves)

            def carry(i: int, x: Any, degree: int) -> Any:
                return leaves[i].carry(x, degree, old[i], after[i])

            due = self.basis.due(self.count)
            carried_trees(self.program, cells, carry, due)
        self.inner = self.program.layout.unflatten([cells[n] for n in self.program.numbers])
        if tx.on_refresh == "reset" and not tx.basis.is_fixed:
            inside = [None if x is None else x.inside() for x in self.leaves]
            due, old = self.basis.due(self.count), self.inner
            self.inner = choose(due, lambda: self.program.init(inside), lambda: old)

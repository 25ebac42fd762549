"""`Tree`, the stage that calls `update_tree` of one transformation of the whole tree."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gradtx._core.authors import kind_of, without_params
from gradtx._core.boundary import strong
from gradtx._core.dtypes import compute_dtype, like
from gradtx._core.layout import is_placeholder, shared
from gradtx._core.numerics import bounded
from gradtx._core.schedule import next_count
from gradtx._core.trees import Structure, path_string
from gradtx._core.tuned import holds_tuned, settled_tx, started


class Tree:
    """The stage of a transformation of the whole tree, whose state lies in one cell.

    Args:
        tx: the transformation.
        source: the register of the incoming updates, or -1 if it has no leaves.
        result: the register of the new updates.
        owned: for every leaf, whether the transformation updates it.

    `cell` is the number of the state's cell. `step` is the number of the cell with the step that its
    schedules are evaluated at, or -1 if it has no schedules.
    """

    cell = step = -1

    def __init__(self, tx: Any, source: int, result: int, owned: list[bool]) -> None:
        self.tx, self.source, self.result, self.owned = tx, source, result, owned
        self.tuned = holds_tuned(tx)
        # The transformation before the first step: one object, which says once what is to be said once.
        self.start = started(tx) if self.tuned else tx

    def init(
        self, cells: list[Any], params: list[Any], absent: list[Any], structure: Structure
    ) -> None:
        """Fill its cells before the first step."""
        gap = absent if self.tx.is_foreign else [None] * len(params)
        own = [p if has else x for p, x, has in zip(params, gap, self.owned, strict=True)]
        state = self.start.init_tree(structure.unflatten(own))
        if not self.tx.is_foreign:
            for x in jax.tree.leaves(state, is_leaf=is_placeholder):
                if isinstance(x, shared):
                    raise TypeError(
                        f"`init_tree` of `{type(self.tx).__name__}` put `{x}` into the state. The state "
                        "of a tree has every scalar once, so nothing is shared between leaves. Write "
                        "`jnp.asarray(...)` instead."
                    )
            state = jax.tree.map(_as_array, state)
        cells[self.cell] = state
        if self.step >= 0:
            cells[self.step] = jnp.int32(0)

    def run(self, frame: Any) -> None:
        tx, cells = settled_tx(self.tx, frame.found) if self.tuned else self.tx, frame.cells
        if self.step >= 0:
            tx = tx.at(cells[self.step])
            cells[self.step] = next_count(jnp.asarray(cells[self.step]))
        updates = frame.registers[self.source] if self.source >= 0 else frame.registers[0]
        given = self._own(updates, frame, bound=not tx.linear)
        owners = None if frame.params is None else self._own(frame.params, frame)
        params = None if owners is None else frame.low.tree(owners)
        try:
            result = tx.update_tree(frame.low.tree(given), cells[self.cell], params, frame.extra)
        except (TypeError, ValueError, AttributeError) as error:
            if params is None and (missing := without_params(tx, error)):
                raise missing from error
            raise
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"`update_tree` of `{type(tx).__name__}` must return the updates and the new state; it "
                f"returned {kind_of(result)}. Write `return updates, state`."
            )
        cells[self.cell] = self._kept(result[1], cells[self.cell])
        frame.registers[self.result] = self._updates(result[0], given, frame.low)

    def _own(self, leaves: list[Any], frame: Any, *, bound: bool = False) -> list[Any]:
        """The leaves that the transformation gets: in float32 at least, and clipped if `bound` is True.

        Every leaf that it does not update is None, or `optax.MaskedNode()` for Optax's transformations,
        which get their own leaves unchanged.
        """
        if self.tx.is_foreign:
            gap = [None if x is None else optax.MaskedNode() for x in frame.low.leaves]
            return [
                x if has else hole for x, has, hole in zip(leaves, self.owned, gap, strict=True)
            ]
        own: list[Any] = []
        for x, has in zip(leaves, self.owned, strict=True):
            wide = x.astype(compute_dtype(x)) if has and x is not None else None
            own.append(bounded(wide) if bound and wide is not None else wide)
        return own

    def _updates(self, new: Any, given: list[Any], low: Any) -> list[Any]:
        """The leaves of the new updates, whose structure and shapes must be the gradients'."""
        name = type(self.tx).__name__
        try:
            out = low.structure.flatten_up_to(new)
        except (ValueError, TypeError):
            raise TypeError(
                f"`update_tree` of `{name}` returned updates whose structure is not the gradients': "
                f"{kind_of(new)}. Write `return updates, state`, where `updates` is a tree like the "
                "gradients."
            ) from None
        for i, (u, old) in enumerate(zip(out, given, strict=True)):
            if self.owned[i] and old is not None and (u is None or jnp.shape(u) != old.shape):
                what = "None" if u is None else f"an update of shape {jnp.shape(u)}"
                raise ValueError(
                    f"`update_tree` of `{name}` returned {what} at `{low.paths[i] or '.'}` for a "
                    f"gradient of shape {old.shape}. Return updates of the gradients' shapes."
                )
        return [u if has else None for u, has in zip(out, self.owned, strict=True)]

    def _kept(self, new: Any, old: Any) -> Any:
        """The new state in the dtypes of the old one, whose structure and shapes it must have."""
        name = type(self.tx).__name__
        if self.tx.is_foreign:
            return new
        if jax.tree.structure(new) != jax.tree.structure(old):
            raise TypeError(
                f"`update_tree` of `{name}` returned a state whose structure is not the old one: "
                f"{kind_of(new)} for {kind_of(old)}. Write `return updates, state`, where `state` is "
                "like the one that `init_tree` returns, with new arrays."
            )
        paths = jax.tree_util.tree_leaves_with_path(new)
        for (path, n), o in zip(paths, jax.tree.leaves(old), strict=True):
            if jnp.shape(n) != jnp.shape(o):
                raise ValueError(
                    f"`update_tree` of `{name}` returned an array of shape {jnp.shape(n)} for "
                    f"`{path_string(path) or '.'}` of its state, and the old array has the shape "
                    f"{jnp.shape(o)}. Return a state like the one that `init_tree` returns; if the "
                    "state was made for other parameters, make it again with `init`."
                )
        return like(jax.tree.map(jnp.asarray, new), jax.tree.map(jnp.asarray, old))


def _as_array(x: Any) -> Any:
    """`x` as an array, if it is a Python number in a state."""
    return strong(x) if isinstance(x, bool | int | float | complex) else x

"""`Tree`: a transformation of the whole tree, as a stage."""

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


class Tree:
    """A transformation of the whole tree, which keeps its state in one cell."""

    cell = step = -1

    def __init__(self, tx: Any, source: int, result: int, owned: list[bool]) -> None:
        self.tx, self.source, self.result, self.owned = tx, source, result, owned

    def init(
        self, cells: list[Any], params: list[Any], absent: list[Any], structure: Structure
    ) -> None:
        """Fill the cell before the first step."""
        gap = absent if self.tx.is_foreign else [None] * len(params)
        own = [p if has else x for p, x, has in zip(params, gap, self.owned, strict=True)]
        state = self.tx.init_tree(structure.unflatten(own))
        if not self.tx.is_foreign:
            for x in jax.tree.leaves(state, is_leaf=is_placeholder):
                if isinstance(x, shared):
                    raise TypeError(
                        f"`init_tree` of `{type(self.tx).__name__}` put `{x}` into the state: only the "
                        "states of leaves are shared, and a tree has one state anyway. Write "
                        "`jnp.asarray(...)` instead."
                    )
            state = jax.tree.map(_as_array, state)
        cells[self.cell] = state
        if self.step >= 0:
            cells[self.step] = jnp.int32(0)

    def run(self, frame: Any) -> None:
        tx, cells = self.tx, frame.cells
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
        """The leaves as the transformation gets them: float32 at least, and bounded if it squares.

        Leaves of others are None; Optax has its own word for them, also in its states.
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
        """The leaves of the new updates, which must have the gradients' structure and shapes."""
        name = type(self.tx).__name__
        try:
            out = low.structure.flatten_up_to(new)
        except (ValueError, TypeError):
            raise TypeError(
                f"`update_tree` of `{name}` returned updates of another structure than the gradients: "
                f"{kind_of(new)}. Write `return updates, state`, the updates as a tree like the "
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
        """The new state, in the dtypes of the old one, which it must be like."""
        name = type(self.tx).__name__
        if self.tx.is_foreign:
            return new
        if jax.tree.structure(new) != jax.tree.structure(old):
            raise TypeError(
                f"`update_tree` of `{name}` returned a state of another structure than it got: "
                f"{kind_of(new)} for {kind_of(old)}. Write `return updates, state`, the state as "
                "`init_tree` makes it, with new arrays."
            )
        paths = jax.tree_util.tree_leaves_with_path(new)
        for (path, n), o in zip(paths, jax.tree.leaves(old), strict=True):
            if jnp.shape(n) != jnp.shape(o):
                raise ValueError(
                    f"`update_tree` of `{name}` returned an array of shape {jnp.shape(n)} for "
                    f"`{path_string(path) or '.'}` of its state, where it got one of shape "
                    f"{jnp.shape(o)}. Return what `init_tree` describes, with new arrays; a state that "
                    "was made for other parameters has to be made again, with `init`."
                )
        return like(jax.tree.map(jnp.asarray, new), jax.tree.map(jnp.asarray, old))


def _as_array(x: Any) -> Any:
    """A Python number in the state of a tree as an array."""
    return strong(x) if isinstance(x, bool | int | float | complex) else x

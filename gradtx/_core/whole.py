"""`Tree`: a transformation of the whole tree, as a stage."""

from typing import Any

import jax.numpy as jnp

from gradtx._core.dtypes import compute_dtype
from gradtx._core.numerics import bounded
from gradtx._core.schedule import next_count
from gradtx._core.trees import Structure


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
        cells[self.cell] = self.tx.init_tree(structure.unflatten(own))
        if self.step >= 0:
            cells[self.step] = jnp.int32(0)

    def run(self, frame: Any) -> None:
        tx, cells = self.tx, frame.cells
        if self.step >= 0:
            tx = tx.at(cells[self.step])
            cells[self.step] = next_count(jnp.asarray(cells[self.step]))
        updates = frame.registers[self.source] if self.source >= 0 else frame.registers[0]
        if not (tx.linear or tx.wraps):
            updates = [
                bounded(u.astype(compute_dtype(u))) if has and u is not None else u
                for u, has in zip(updates, self.owned, strict=True)
            ]
        params = frame.params and frame.tree(frame.params, self.owned)
        given = frame.tree(updates, self.owned)
        result = tx.update_tree(given, cells[self.cell], params, frame.extra)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"`update_tree` of `{type(tx).__name__}` must return the updates and the new state; it "
                f"returned {type(result).__name__}. Write `return updates, state`."
            )
        new, cells[self.cell] = result
        out = frame.low.structure.flatten_up_to(new)
        for i, (u, old) in enumerate(zip(out, updates, strict=True)):
            if self.owned[i] and old is not None and jnp.shape(u) != old.shape:
                raise ValueError(
                    f"`update_tree` of `{type(tx).__name__}` returned an update of shape "
                    f"{jnp.shape(u)} at `{frame.low.paths[i] or '.'}` for a gradient of shape {old.shape}."
                )
        frame.registers[self.result] = [
            u if has else None for u, has in zip(out, self.owned, strict=True)
        ]

"""The trainings of a sweep, in groups that can share one compiled program.

A training is a member: the row of its optimizer and the column of its seed in the table of scores.
"""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.fields import leaf_key


@dataclasses.dataclass(frozen=True)
class Group:
    """Optimizers that differ in numbers only, and the seeds with which each of them trains.

    `leaves` maps the row of an optimizer to the leaves of its pytree. `numeric` says which leaves are
    numbers or arrays, and `varies` which of these differ between the optimizers.
    """

    structure: Any
    leaves: dict[int, list[Any]]
    numeric: list[bool]
    varies: list[bool]
    seeds: tuple[int, ...] | None

    @property
    def members(self) -> list[tuple[int, int]]:
        """The row and the column of each training."""
        return [(row, column) for row in self.leaves for column in range(len(self.seeds or (0,)))]

    def numbers(self, row: int) -> list[Any]:
        """The numbers of one optimizer."""
        return [x for x, yes in zip(self.leaves[row], self.numeric, strict=True) if yes]

    def key(self, column: int) -> Any:
        """The key of one training, or None if there are no seeds."""
        return None if self.seeds is None else jax.random.key(self.seeds[column])

    def batch(self, members: Sequence[tuple[int, int]]) -> tuple[list[Any], Any]:
        """The numbers and the keys of several trainings, with a first axis where they differ."""
        rows = [self.numbers(row) for row, _ in members]
        numbers = [
            _stacked(column) if varies else column[0]
            for column, varies in zip(zip(*rows, strict=True), self.varies, strict=True)
        ]
        if self.seeds is None:
            return numbers, None
        return numbers, jnp.stack([self.key(column) for _, column in members])

    def tx(self, numbers: Sequence[Any]) -> Any:
        """The optimizer that has these numbers."""
        rest, first = iter(numbers), next(iter(self.leaves.values()))
        return self.structure.unflatten(
            [next(rest) if yes else x for x, yes in zip(first, self.numeric, strict=True)]
        )


def groups(txs: Sequence[Any], seeds: tuple[int, ...] | None) -> list[Group]:
    """The groups of optimizers, in the order of their first members."""
    found: dict[Hashable, dict[int, list[Any]]] = {}
    for row, tx in enumerate(txs):
        leaves, structure = jax.tree.flatten(tx)
        found.setdefault((structure, *map(_kind, leaves)), {})[row] = leaves
    return [_group(key[0], rows, seeds) for key, rows in found.items()]  # pyright: ignore


def _group(structure: Any, leaves: dict[int, list[Any]], seeds: tuple[int, ...] | None) -> Group:
    rows = list(leaves.values())
    numeric = [_is_number(x) for x in rows[0]]
    varies = [
        any(leaf_key(x) != leaf_key(column[0]) for x in column)
        for column, yes in zip(zip(*rows, strict=True), numeric, strict=True)
        if yes
    ]
    return Group(structure, leaves, numeric, varies, seeds)


def _is_number(x: Any) -> bool:
    return isinstance(x, float | int | np.generic | np.ndarray | jax.Array)


def _kind(leaf: Any) -> Hashable:
    """What two leaves must have in common to be entries of one array."""
    if not _is_number(leaf):
        return "constant", id(leaf)  # such as the functions of a transformation of Optax
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else type(leaf)


def _stacked(column: tuple[Any, ...]) -> Any:
    if isinstance(column[0], float):
        return np.asarray(column, jax.dtypes.canonicalize_dtype(float))
    return jnp.stack([jnp.asarray(x) for x in column])

"""How the nested state that a user sees is mapped to the flat list of cells that a step works on.

A cell holds one array of the state, or the state of one `Tree` stage. Lowering builds the state with the
nesting and the names of its author, but with a *place*, which holds the number of a cell, where an array
belongs. `numbered` turns that into a `PyTreeDef` and the number of the cell for each leaf of it.
"""

from dataclasses import dataclass
from typing import Any

import jax

from gradtx._core.trees import Structure


# Places are not tuples, so that JAX takes them for leaves without asking a function at every node.
@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one array per leaf of the parameters.

    Attributes:
        first: the number of the first leaf's cell. The cells of the other leaves follow.
    """

    first: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A place for a scalar that all leaves share, or for the state of a transformation of whole trees.

    Attributes:
        number: the number of the cell.
        counts: whether the scalar counts steps. Two such scalars of the same name always agree.
    """

    number: int
    counts: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """The state of a recipe that names its state.

    Attributes:
        public: the state that the user sees, with the names of the recipe.
        plain: the nested state of the composition. It may hold a counter, which is stored once, at
            several places.
    """

    public: Any
    plain: Any


def numbered(
    state: Any, leaves: Structure, merged: dict[int, int], *, public: bool
) -> tuple[list[int], Structure]:
    """The number of the cell for each leaf of a state, in order, and the structure of the state.

    Args:
        state: a state with places.
        leaves: the structure of the parameters.
        merged: maps the number of a cell that is not stored to the number of the equal cell that is.
        public: whether to use the names that recipes give, or the nested states of compositions.
    """

    def spread(x: Any) -> Any:
        match x:
            case Slot():
                return leaves.unflatten(range(x.first, x.first + leaves.num_leaves))
            case Cell():
                return merged.get(x.number, x.number)
            case Named():
                return jax.tree.map(spread, x.public if public else x.plain)
            case _:
                return x

    return jax.tree.flatten(jax.tree.map(spread, state))


def cells_of(state: Any, leaves: int) -> set[int]:
    """The numbers of all cells in a state, where the parameters have `leaves` leaves."""
    found: set[int] = set()
    for x in jax.tree.leaves(state):
        match x:
            case Slot():
                found |= {*range(x.first, x.first + leaves)}
            case Cell():
                found.add(x.number)
            case Named():
                found |= cells_of(x.public, leaves)
    return found

"""Where the state of a lowered transformation lies: cells with numbers, under the names of its author.

A state is built while lowering with places where arrays belong. What the user sees is a `PyTreeDef` over
the numbers of the cells: the nesting and the names are the author's, and the work is on a flat list.
"""

from typing import Any, NamedTuple

import jax

from gradtx._core.trees import Structure


class Slot(NamedTuple):
    """A field of a state with one array per leaf: the number of the first leaf's cell."""

    first: int


class Cell(NamedTuple):
    """A shared scalar, or the state of a whole tree: the number of its cell.

    `counts` says whether the scalar counts steps, so that all of one composition agree.
    """

    number: int
    counts: bool = False


class Named(NamedTuple):
    """A state under another name: what the user sees, and the state of the composition behind it.

    A counter that is kept once stands at several places of `plain`, under one number.
    """

    public: Any
    plain: Any


def is_place(x: Any) -> bool:
    """Whether `x` stands in a state for arrays that have numbers."""
    return isinstance(x, Slot | Cell | Named)


def numbered(
    state: Any, leaves: Structure, merged: dict[int, int], *, public: bool
) -> tuple[list[int], Structure]:
    """The numbers of the cells in the order of a state's leaves, and the structure of the state.

    Args:
        state: a state with places.
        leaves: the structure of the parameters.
        merged: for a cell that is kept once with another, the number of that one.
        public: whether recipes' states have the names that they give, or those of their compositions.
    """

    def spread(x: Any) -> Any:
        match x:
            case Slot():
                return leaves.unflatten(range(x.first, x.first + leaves.num_leaves))
            case Cell():
                return merged.get(x.number, x.number)
            case Named():
                return jax.tree.map(spread, x.public if public else x.plain, is_leaf=is_place)
            case _:
                return x

    return jax.tree.flatten(jax.tree.map(spread, state, is_leaf=is_place))


def cells_of(state: Any, leaves: int) -> set[int]:
    """The numbers of the cells of a state, in a program of so many leaves."""
    found: set[int] = set()
    for x in jax.tree.leaves(state, is_leaf=is_place):
        match x:
            case Slot():
                found |= {*range(x.first, x.first + leaves)}
            case Cell():
                found.add(x.number)
            case Named():
                found |= cells_of(x.public, leaves)
    return found

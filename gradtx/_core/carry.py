"""The state of a transformation whose coordinates change: which arrays turn, and how.

Every class says in `degrees` how each field of its state depends on the gradient: 1 for an average, 2
for a mean square. A change of basis turns the former, and sorts the latter.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gradtx._core.branches import choose
from gradtx._core.trees import Structure
from gradtx._core.whole import Tree

# The degrees of fields of states of Optax, and of classes that do not declare degrees.
KNOWN = {"mu": 1, "trace": 1, "momentum": 1, "ema": 1, "acc_grads": 1, "nu": 2, "nu_max": 2}
KNOWN |= {"sum_of_squares": 2, "e_g": 2, "e_x": 0}

# A function of the number of a leaf, an array of the state of this leaf, and its degree.
Carry = Callable[[int, Any, int], Any]


class Moment(NamedTuple):
    """An array of the state of one leaf.

    Attributes:
        cell: the number of its cell.
        degree: its degree in the gradient.
        name: its name in the state.
        owner: the name of the transformation that it belongs to.
    """

    cell: int
    degree: int
    name: str
    owner: str


def cells_of_state(program: Any, state: Any) -> dict[int, Any]:
    """The array in every cell of a state."""
    return dict(zip(program.numbers, program.layout.flatten_up_to(state), strict=True))


def carried_slots(program: Any, cells: dict[int, Any]) -> dict[int, list[Moment]]:
    """For every leaf the arrays that a change of basis changes, in the states of single leaves.

    Raises:
        TypeError: if a class does not declare the degree of an array.
    """
    found: dict[int, list[Moment]] = {}
    for call in program.lowering.calls:
        for first, position in zip(call.slots, call.layout.arrays, strict=True):
            name = call.layout.names[position].rpartition("/")[2]
            for i in call.owned:
                x = cells.get(first + i)
                if getattr(x, "ndim", 0) == 0:
                    continue
                degree = _degree(call.tx, name)
                if degree is None:
                    raise _unknown(call.tx, name)
                found.setdefault(i, []).append(Moment(first + i, degree, name, _name(call.tx)))
    return found


def carried_trees(program: Any, cells: dict[int, Any], carry: Carry, due: Any) -> None:
    """Carry the states of transformations of whole trees into a new basis, if `due` holds."""
    low = program.lowering
    for stage in low.trees:
        if not isinstance(stage, Tree):
            continue  # the readings of a tap are numbers, which have no coordinates
        old = cells[stage.cell]
        if not any(getattr(x, "ndim", 0) for x in jax.tree.leaves(old)):
            continue

        def turn(tx: Any = stage.tx, state: Any = old) -> Any:
            # A class whose state is not made of plain arrays, such as `stored`, has its own method.
            own = getattr(tx, "carry_tree", functools.partial(carried_fields, tx))
            return own(state, low.leaves, low.structure, carry)

        cells[stage.cell] = choose(due, turn, lambda old=old: old)


def carried(tx: Any, state: Any, leaves: list[Any], structure: Structure, carry: Carry) -> Any:
    """The state of a transformation in a new basis.

    Args:
        tx: the transformation.
        state: its state.
        leaves: the parameters, or their shapes; None for leaves that are not updated.
        structure: the structure of the parameters.
        carry: takes an array into the new basis.
    """
    program = tx.program(leaves, structure)
    cells = cells_of_state(program, state)
    for i, moments in carried_slots(program, cells).items():
        for m in moments:
            cells[m.cell] = carry(i, cells[m.cell], m.degree)
    carried_trees(program, cells, carry, True)
    return program.layout.unflatten([cells[number] for number in program.numbers])


def carried_fields(
    tx: Any, node: Any, leaves: list[Any], structure: Structure, carry: Carry, name: str = ""
) -> Any:
    """A part of the state of a transformation of whole trees, by the names of its fields.

    Args:
        tx: the transformation.
        node: the part of its state.
        leaves: the parameters, or their shapes; None for leaves that are not updated.
        structure: the structure of the parameters.
        carry: takes an array into the new basis.
        name: the name of the field that the part lies in.
    """
    if not any(getattr(x, "ndim", 0) for x in jax.tree.leaves(node)):
        return node
    degree = _degree(tx, name)
    if degree is not None:
        arrays = structure.flatten_up_to(node)
        return structure.unflatten(
            [carry(i, x, degree) if getattr(x, "ndim", 0) else x for i, x in enumerate(arrays)]
        )
    if name in ("inner", "inner_state", "inner_opt_state") and hasattr(tx, "inner"):
        return carried(tx.inner, node, leaves, structure, carry)
    names = getattr(node, "_fields", None)
    if isinstance(node, tuple):
        named = zip(names or [""] * len(node), node, strict=True)
        parts = [carried_fields(tx, x, leaves, structure, carry, key) for key, x in named]
        return type(node)(*parts) if names else tuple(parts)
    raise _unknown(tx, name)


def _degree(tx: Any, name: str) -> int | None:
    unit = getattr(tx, "unit", tx)
    return unit.degrees.get(name, KNOWN.get(name))


def _name(tx: Any) -> str:
    return type(getattr(tx, "unit", tx)).__name__


def _unknown(tx: Any, name: str) -> TypeError:
    field = name or "state"
    return TypeError(
        f"`{_name(tx)}` does not say how `{field}` of its state depends on the gradient, so the state "
        f"cannot be taken into a new basis. Declare `degrees = {{{field!r}: 1}}` in the class for an "
        'average of gradients, or 2 for an average of squares; or pass `on_refresh="keep"` to '
        "`in_basis`."
    )

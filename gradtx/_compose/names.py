"""States under a name: what a composition keeps, as one NamedTuple with the field's usual names.

`scale_by_adam` is a quotient of two corrected averages, so the state of its composition is nested and
has two counters. `ScaleByAdamState(count, mu, nu)` holds the same numbers under the names that hosts
and checkpoints know. A name is the last field on the way to a cell; two counters that have the same
name advance together, so one is kept.
"""

from collections.abc import Mapping
from typing import Any

from gradtx._core.lowering import Lowering
from gradtx._core.places import Cell, Named, Slot


def named_state(
    low: Lowering, name: Any, renames: Mapping[str, str], state: Any, owner: str
) -> Named:
    """The state of a composition under another name.

    Args:
        low: where cells are merged.
        name: a NamedTuple class.
        renames: for a field of the composition's state, what it is called here.
        state: the state of the composition, with places where arrays belong.
        owner: whose state it is, for the message.

    Raises `TypeError` if the fields are not those of the composition, or if two arrays have one name.
    """
    found: dict[str, Any] = {}
    for field, place in _places(state, "", []):
        field = renames.get(field, field)
        known = found.setdefault(field, place)
        if known is place:
            continue
        if not (isinstance(place, Cell) and place.counts):
            raise TypeError(
                f"Two arrays in the state of `{owner}` are called `{field}` and cannot be told apart by "
                "name. Rename one, or leave the state unnamed."
            )
        low.merge(known, place)
    if sorted(found) != sorted(name._fields):
        raise TypeError(
            f"`{owner}` names its state `{name.__name__}{name._fields}`, but its composition keeps "
            f"{tuple(found)}. Name exactly these."
        )
    return Named(name(**found), state)


def _places(node: Any, field: str, found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Note every place in a state, with the last name on the way to it."""
    if isinstance(node, Slot | Cell):
        found.append((field, node))
    elif isinstance(node, Named):
        _places(node.public, field, found)
    elif isinstance(node, tuple) and node:
        for name, x in zip(
            getattr(node, "_fields", None) or (field,) * len(node), node, strict=True
        ):
            _places(x, name, found)
    return found

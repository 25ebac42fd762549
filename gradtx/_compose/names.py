"""The state of a composition as one flat NamedTuple, with the names that Optax gives to its arrays.

`scale_by_adam` is the quotient of two bias-corrected averages, so the state of this composition is
nested and holds two counters. `ScaleByAdamState(count, mu, nu)` holds the same arrays under the names
that training frameworks and checkpoints know. The name of an array is the innermost field name on the
way to it. Two counters of the same name always agree, so only one of them is stored.
"""

from collections.abc import Mapping
from typing import Any

from gradtx._core.lowering import Lowering
from gradtx._core.places import Cell, Named, Slot


def named_state(
    low: Lowering, name: Any, renames: Mapping[str, str], state: Any, owner: str
) -> Named:
    """The state of a composition as an instance of the NamedTuple class `name`.

    Args:
        low: the lowering in progress, which notes that two counters are stored once.
        name: the NamedTuple class.
        renames: maps a field name in the composition's state to the name to use in `name`.
        state: the state of the composition, with a place for each array (`places.py`).
        owner: the name of the recipe, for error messages.

    Raises:
        TypeError: if the fields of `name` are not the names of the composition's arrays, or if two
            arrays have the same name.
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
                "name. Rename one of them, or do not define `state`, which keeps the nested state."
            )
        low.merge(known, place)
    if sorted(found) != sorted(name._fields):
        raise TypeError(
            f"`{owner}` names its state `{name.__name__}{name._fields}`, but the names in the state of "
            f"its composition are {tuple(found)}. Name exactly these, or map them with `renames`."
        )
    return Named(name(**found), state)


def _places(node: Any, field: str, found: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Append to `found` every place in a state, with the innermost field name on the way to it."""
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

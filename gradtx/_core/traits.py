"""What is so of a transformation or of one inside it, found in one walk for all questions."""

from typing import Any, NamedTuple


class Traits(NamedTuple):
    """What is so of a transformation or of one inside it.

    Attributes:
        whole: whether it needs the arrays of several leaves at once, so that a pass ends before it.
        wide: whether it returns its updates in float32 at least.
        evaluates: whether it keeps parameters of its own to evaluate with (`iterates.py`).
    """

    whole: bool
    wide: bool
    evaluates: bool


def traits_of(tx: Any) -> Traits:
    """The traits of a transformation, which asks those inside it."""
    whole, wide, evaluates = tx._calls or tx._gathers or tx.measures, tx.wide_updates, tx._evaluates
    for child in tx.children:
        inside = child.traits
        whole, wide = whole or inside.whole, wide or inside.wide
        evaluates = evaluates or inside.evaluates
    return Traits(whole, wide, evaluates)

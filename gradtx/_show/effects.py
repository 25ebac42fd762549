"""What happens to each parameter besides its transformation: whether it decays or is frozen.

Every class says in `effect` what it does to the leaves that reach it, such as "decays", and in
`keeps_zero` whether an update of zero stays zero.
"""

from typing import Any

from gradtx._compose.fanout import fanout
from gradtx._compose.partition import masked, partition
from gradtx._core.terms import Visit


def leaves_of(visit: Visit) -> set[int]:
    """The indices of the leaves that reach a transformation."""
    return {i for i, term in enumerate(visit.stream) if term is not None}


def effects(visit: Visit) -> dict[str, set[int]]:
    """The leaves that each effect is on, by the name of the effect, in the order of the chain."""
    found: dict[str, set[int]] = {}
    _collect(visit, found)
    found.pop("frozen", None)
    frozen = still(visit, set())
    return {name: own - frozen for name, own in found.items()} | {"frozen": frozen}


def _collect(visit: Visit, found: dict[str, set[int]]) -> None:
    effect = getattr(visit.tx, "effect", "")
    if effect:
        found.setdefault(effect, set()).update(leaves_of(visit))
    elif isinstance(visit.tx, masked) and not getattr(visit.tx.inner, "effect", ""):
        name = f"in masked({type(visit.tx.inner).__name__})"
        found.setdefault(name, set()).update(*map(leaves_of, visit.inside))
    for inner in visit.inside:
        _collect(inner, found)


def still(visit: Visit, zero: set[int]) -> set[int]:
    """The leaves whose updates are zero after a transformation, given those that were zero before."""
    tx: Any = visit.tx
    zero = zero & leaves_of(visit)
    if isinstance(tx, fanout):
        after = [still(inner, zero) for inner in visit.inside]
        match tx.combine:
            case "add" | "subtract":
                return set.intersection(*after)
            case "multiply":
                return set.union(*after)
            case "divide" | "arctan2":
                return after[0]
            case _:
                return set()
    if isinstance(tx, partition):  # every group has its own leaves
        after = [(zero - leaves_of(x)) | still(x, zero) for x in visit.inside]
        return set().union(*(x & leaves_of(v) for x, v in zip(after, visit.inside, strict=True)))
    for inner in visit.inside:
        zero = (zero - leaves_of(inner)) | still(inner, zero)
    if getattr(tx, "effect", "") == "frozen":
        return leaves_of(visit)
    composes = bool(visit.inside) and not tx.wraps and not tx._overrides("update_tree")
    return zero if composes or tx.keeps_zero or tx.keeps_updates else set()

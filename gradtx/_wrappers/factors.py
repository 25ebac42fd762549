"""Factors of the updates that differ from leaf to leaf, for wrappers that know the whole tree."""

from typing import Any

from gradtx._compose.partition import select
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._transforms.scale import scale


def multiplied(low: Lowering, stream: Stream, factors: list[Any]) -> Stream:
    """The stream with the update of every leaf multiplied by the factor of this leaf.

    Args:
        low: the lowering in progress.
        stream: the stream of the updates.
        factors: for every leaf a number, or an elementwise transformation without state that
            multiplies. Where it is 1.0, the update passes through.
    """
    inside = [term is not None and f != 1.0 for term, f in zip(stream, factors, strict=True)]
    if not any(inside):
        return stream
    made: dict[
        Any, Any
    ] = {}  # a transformation is made once per factor, since to hash it takes time
    for f in factors:
        key = f if isinstance(f, float) else id(f)
        if key not in made:
            made[key] = low.interned(scale(f) if isinstance(f, float) else f)
    keys = (f if isinstance(f, float) else id(f) for f in factors)
    variants = [made[key] if here else None for key, here in zip(keys, inside, strict=True)]
    model = next(f for f in variants if f is not None)
    out, _ = low.unit(model, (select(stream, inside),), None, variants)
    return [new if here else old for new, old, here in zip(out, stream, inside, strict=True)]

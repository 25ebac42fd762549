"""Showing where every leaf goes, and why."""

from typing import Any, NamedTuple

from gradtx._compose.partition import partition
from gradtx._core.boundary import as_param
from gradtx._core.lowering import Lowering, Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.values import Value


class Route(NamedTuple):
    """One leaf's way: its path and shape, the labels that it passes under, and the rule's reason."""

    path: str
    shape: tuple[int, ...]
    label: str
    why: str


class Routes(tuple[Route, ...]):
    """The rows of `routing`, which print as a table."""

    def __repr__(self) -> str:
        rows = [("leaf", "shape", "goes to", "why")]
        rows += [(r.path, "x".join(map(str, r.shape)) or "scalar", r.label, r.why) for r in self]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)


def routing(tx: Transform, params: PyTree) -> Routes:
    """The table of where `tx` sends every leaf of `params`, and why.

    A tuple of `Route(path, shape, label, why)` that prints as a table. Labels of a partition inside a
    partition are joined by " > "; leaves that no partition routes all go to `tx`. `params` may be
    `jax.ShapeDtypeStruct`s.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.routing(gradtx.muon(2e-3), {"w": jnp.ones((4, 8)), "b": jnp.ones(8)})
    leaf  shape  goes to  why
    ----  -----  -------  -------------
    b     8      adamw    vector
    w     4x8    muon     matrix 4 -> 8
    """
    leaves, structure = flatten(params)
    shapes = [as_param(x) if hasattr(x, "shape") else None for x in leaves]
    root = Visit(None, [], [])
    low = Lowering(shapes, structure, root)
    low.lower(tx, low.source())
    ways: list[tuple[list[str], str]] = [([], "") for _ in shapes]
    _follow(root.inside[0], low, ways)
    return Routes(
        Route(path, tuple(x.shape), " > ".join(labels) or type(tx).__name__, why)
        for path, x, (labels, why) in zip(low.paths, shapes, ways, strict=True)
        if x is not None
    )


def _follow(visit: Visit, low: Lowering, ways: list[tuple[list[str], str]]) -> None:
    """Note for every leaf the labels that it passes under, and the last rule's reason."""
    if isinstance(visit.tx, partition):
        rule, labels = visit.tx.param_labels, visit.tx.labels(low, visit.stream)
        for i, term in enumerate(visit.stream):
            if term is not None:
                ways[i] = [*ways[i][0], labels[i]], _reason(rule, low.paths[i], low.leaves[i])
    for inner in visit.inside:
        _follow(inner, low, ways)


def _reason(rule: Any, path: str, leaf: Any) -> str:
    if hasattr(rule, "why"):
        return rule.why(path, leaf)[1]
    if isinstance(rule, Value):
        return repr(rule)
    return f"by {rule.__name__}" if hasattr(rule, "__name__") else "by its label"

"""Showing where every leaf goes, and why."""

from typing import Any, NamedTuple

from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, is_inexact, paths
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
    leaves = [x if hasattr(x, "shape") and is_inexact(x) else None for x in leaves]
    params = structure.unflatten(leaves)
    routes = []
    for path, x, (labels, why) in zip(paths(params), leaves, _ways(tx, params), strict=True):
        if x is not None:
            routes.append(Route(path, tuple(x.shape), " > ".join(labels) or type(tx).__name__, why))
    return Routes(routes)


def _ways(tx: Any, params: PyTree) -> list[tuple[list[str], str]]:
    """For every leaf the labels that it passes under in `tx`, and the last rule's reason."""
    leaves, structure = flatten(params)
    if not isinstance(tx, partition):
        below = [_ways(part, params) for part in _parts(tx)]
        return next((w for w in below if any(labels for labels, _ in w)), [([], "")] * len(leaves))
    ways: list[tuple[list[str], str]] = [([], "")] * len(leaves)
    labels = tx.labels(params)
    for label, part in tx.transforms.items():
        own = structure.unflatten(
            [x if at == label else None for x, at in zip(leaves, labels, strict=True)]
        )
        for i, (deeper, why) in enumerate(_ways(part, own)):
            if labels[i] == label:
                ways[i] = (
                    [label, *deeper],
                    why or _reason(tx.param_labels, paths(params)[i], leaves[i]),
                )
    return ways


def _parts(tx: Any) -> list[Transform]:
    if isinstance(tx, Recipe):
        return [tx.expand()]
    inside = [getattr(tx, name) for name in tx._data]
    inside = [x for value in inside for x in (value if type(value) is tuple else (value,))]
    return [x for x in inside if isinstance(x, Transform)]


def _reason(rule: Any, path: str, leaf: Any) -> str:
    if hasattr(rule, "why"):
        return rule.why(path, leaf)[1]
    if isinstance(rule, Value):
        return repr(rule)
    return f"by {rule.__name__}" if hasattr(rule, "__name__") else "by its label"

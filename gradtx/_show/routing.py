"""The table of the transformation that each parameter goes to, and the reason."""

from typing import Any, NamedTuple

from gradtx._compose.partition import partition
from gradtx._core.boundary import as_param
from gradtx._core.foreign import as_transform
from gradtx._core.lowering import Lowering, Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.values import Value


class Route(NamedTuple):
    """A row of the table: the path and the shape of a leaf, its label, and the reason for the label."""

    path: str
    shape: tuple[int, ...]
    label: str
    why: str


class Routes(tuple[Route, ...]):
    """The rows that `routing` returns. They print as a table."""

    def __repr__(self) -> str:
        rows = [("leaf", "shape", "goes to", "why")]
        rows += [(r.path, "x".join(map(str, r.shape)) or "scalar", r.label, r.why) for r in self]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines)


def routing(tx: Transform, params: PyTree) -> Routes:
    """A table that says for every parameter which transformation in `tx` it goes to, and why.

    Args:
        tx: a transformation, such as a `partition` or `muon`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Returns:
        A tuple of rows `Route(path, shape, label, why)`, one per parameter, which prints as a table. If
        a partition lies inside another one, the label is both labels, joined by " > ". A parameter that
        no partition labels has the name of `tx` as its label.

    Raises:
        ValueError: if a partition has no transformation for the label of a parameter.
        TypeError: if `tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.routing(gradtx.muon(2e-3), {"w": jnp.ones((4, 8)), "b": jnp.ones(8)})
    leaf  shape  goes to  why
    ----  -----  -------  -------------
    b     8      adamw    vector
    w     4x8    muon     matrix 4 -> 8
    """
    tx = as_transform(tx, "routing(tx=...)")
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
    """Write the labels of every leaf into `ways`, from the outside in, with the last rule's reason."""
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

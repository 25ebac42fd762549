"""Drawing transformations: the tree of what one is made of, and how much state each part keeps."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from gradtx._compose.partition import masked, only, partition
from gradtx._compose.recipe import Recipe
from gradtx._compose.rules import mask_leaves
from gradtx._core.foreign import foreign
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, is_inexact
from gradtx._core.values import same

_WIDTH = 96


class Row(NamedTuple):
    """One transformation in a drawing: how deep it lies, its class and own fields, bytes of state."""

    text: str
    state_bytes: int | None


class Summary(NamedTuple):
    """What `summarize` found; it prints as the drawing.

    `rows` from the top, `state_bytes` in all (None without parameters), `parameters` how many numbers
    are optimized.
    """

    rows: tuple[Row, ...]
    state_bytes: int | None
    parameters: int

    def __repr__(self) -> str:
        if self.state_bytes is None:
            return "\n".join(row.text for row in self.rows)
        sizes = ["" if row.state_bytes is None else _size(row.state_bytes) for row in self.rows]
        left, right = max(len(row.text) for row in self.rows), max(map(len, sizes))
        lines = [
            f"{row.text:{left}}  {size:>{right}}".rstrip()
            for row, size in zip(self.rows, sizes, strict=True)
        ]
        total = f"{_size(self.state_bytes)} of state for {self.parameters:,} parameters"
        if self.parameters:
            total += f", {self.state_bytes / 4 / self.parameters:.1f} floats per parameter"
        return "\n".join([*lines, "─" * (left + right + 2), total])

    __str__ = __repr__


def summarize(tx: Transform, params: PyTree = None) -> Summary:
    """`tx` drawn as a tree, each recipe above the composition that it stands for.

    With `params` (arrays or `jax.ShapeDtypeStruct`s) every line ends in the size of the state that
    this part keeps for the leaves that reach it; a float in the last line is one of four bytes.
    Nothing is allocated.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.summarize(gradtx.adam(1e-3), {"w": jnp.ones((100, 10))})
    adam(0.001)                            8.0 kB
    └── chain                              8.0 kB
        ├── fanout('divide')               8.0 kB
        │   ├── bias_correction            4.0 kB
        │   │   └── scale_by_momentum      4.0 kB
        │   └── fanout('add')              4.0 kB
        │       ├── root                   4.0 kB
        │       │   └── bias_correction    4.0 kB
        │       │       └── second_moment  4.0 kB
        │       └── 1e-08
        └── scale_by_learning_rate(0.001)     8 B
    ─────────────────────────────────────────────
    8.0 kB of state for 1,000 parameters, 2.0 floats per parameter
    """
    shapes = None if params is None else jax.tree.map(_shape, params)
    rows = tuple(_rows(tx, shapes))
    sizes = [math.prod(x.shape) for x in jax.tree.leaves(shapes)]
    return Summary(rows, rows[0].state_bytes, sum(sizes))


def _shape(x: Any) -> Any:
    if not is_inexact(x):
        return None
    dtype = x.dtype if hasattr(x, "dtype") else jax.dtypes.canonicalize_dtype(type(x))
    return jax.ShapeDtypeStruct(getattr(x, "shape", ()), dtype)


def _rows(
    node: Any, params: PyTree, first: str = "", rest: str = "", name: str = ""
) -> Iterator[Row]:
    """The rows of `node`, the first of them behind `first` and the others behind `rest`."""
    text = first + name + (_line(node) if isinstance(node, Transform) else show(node))
    text = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    counted = params is not None and isinstance(node, Transform)
    yield Row(text, _state_bytes(node, params) if counted else None)
    below = _parts(node, params)
    for i, (name, part, own) in enumerate(below):
        last = i == len(below) - 1
        yield from _rows(
            part,
            own,
            rest + ("└── " if last else "├── "),
            rest + ("    " if last else "│   "),
            name,
        )


def _state_bytes(tx: Transform, params: PyTree) -> int:
    state = jax.eval_shape(tx.working().init_tree, params)
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))


def _parts(node: Any, params: PyTree) -> list[tuple[str, Any, PyTree]]:
    """What `node` is made of: a label, the part, and the parameters that reach it."""
    if not isinstance(node, Transform):
        return []
    if isinstance(node, Recipe):
        return [("", node.expand(), params)]
    if isinstance(node, partition):
        labels = None if params is None else node.labels(params)
        return [
            (f"{label}: ", tx, None if labels is None else only(params, labels, label))
            for label, tx in node.transforms.items()
        ]
    if isinstance(node, masked):
        if params is not None:
            params = only(params, mask_leaves(node.mask, params, "masked"), True)
        return [("", node.inner, params)]
    fields = [value for name in node._data if _holds(value := getattr(node, name))]
    return [
        ("", x, params) for value in fields for x in (value if type(value) is tuple else [value])
    ]


def _line(node: Transform) -> str:
    """The class, and the fields that are not drawn below it."""
    if isinstance(node, foreign):  # functions; where they come from is their only name
        return f"foreign({node.tx.init.__qualname__.split('.')[0]})"
    shown, keyword = [], False
    for field in dataclasses.fields(node):  # pyright: ignore[reportArgumentType]
        value = getattr(node, field.name)
        if _holds(value) and not isinstance(node, Recipe):
            keyword = True
        elif field.default is dataclasses.MISSING and not keyword:
            shown.append(show(value))
        elif field.default is dataclasses.MISSING or not same(value, field.default):
            shown.append(f"{field.name}={show(value)}")
    return type(node).__name__ + (f"({', '.join(shown)})" if shown else "")


def _size(count: int) -> str:
    """Bytes as people read them."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.95 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _holds(value: Any) -> bool:
    """Whether a field holds transformations."""
    inside = (
        value.values() if isinstance(value, dict) else value if type(value) is tuple else [value]
    )
    return any(isinstance(x, Transform) for x in inside)

"""Drawing a transformation as the tree of its parts, with the size of the state of each part."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from gradtx._compose.fanout import fanout
from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import as_transform, foreign
from gradtx._core.lowering import Visit
from gradtx._core.places import cells_of
from gradtx._core.program import Program
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, is_inexact
from gradtx._core.values import is_default

_WIDTH = 96


class Row(NamedTuple):
    """A line of the drawing: its text, and how many bytes of state the part keeps, if that is known."""

    text: str
    state_bytes: int | None


class Summary(NamedTuple):
    """The result of `summarize`, which prints as the drawing.

    `rows` are the lines of the drawing, `state_bytes` is the size of the whole state (None if no
    parameters were passed), and `parameters` is how many numbers are optimized.
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
    """A drawing of `tx` as a tree, with every recipe above the composition that it stands for.

    With `params`, every line ends with the size of the state that this part keeps for the parameters
    that reach it. The last line counts floats of four bytes. No memory is allocated.

    Args:
        tx: a transformation.
        params: the parameters, or their `jax.ShapeDtypeStruct`s. None means a drawing without sizes.

    Returns:
        A `Summary(rows, state_bytes, parameters)`, which prints as the drawing.

    Raises:
        TypeError: if `tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.summarize(gradtx.adam(1e-3), {"w": jnp.ones((100, 10))})
    adam(0.001)                                8.0 kB
    └── chain                                  8.0 kB
        ├── scale_by_adam                      8.0 kB
        │   └── fanout('divide')               8.0 kB
        │       ├── bias_correction            4.0 kB
        │       │   └── scale_by_momentum      4.0 kB
        │       └── fanout('add')              4.0 kB
        │           ├── root                   4.0 kB
        │           │   └── bias_correction    4.0 kB
        │           │       └── second_moment  4.0 kB
        │           └── 1e-08
        └── scale_by_learning_rate(0.001)         8 B
    ─────────────────────────────────────────────────
    8.0 kB of state for 1,000 parameters, 2.0 floats per parameter
    """
    tx = as_transform(tx, "summarize(tx=...)")
    leaves, structure = flatten(params)
    shapes = [_shape(x) for x in leaves]
    if params is None:
        rows, state_bytes = tuple(_rows(tx, None, lambda state: None)), None
    else:
        root = Visit(None, [], [])
        program = Program(tx, shapes, structure, root)
        cells = jax.eval_shape(program.init_cells, shapes)

        def size(state: Any) -> int:
            numbers = cells_of(state, len(shapes))
            arrays = jax.tree.leaves([cells[number] for number in numbers])
            return sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)

        rows = tuple(_rows(tx, root.inside[0], size))
        state_bytes = rows[0].state_bytes
    return Summary(rows, state_bytes, sum(math.prod(x.shape) for x in shapes if x is not None))


def _shape(x: Any) -> Any:
    if not is_inexact(x):
        return None
    dtype = x.dtype if hasattr(x, "dtype") else jax.dtypes.canonicalize_dtype(type(x))
    return jax.ShapeDtypeStruct(getattr(x, "shape", ()), dtype)


def _rows(
    node: Any, visit: Visit | None, size: Any, first: str = "", rest: str = "", name: str = ""
) -> Iterator[Row]:
    """The lines of `node` and of the parts inside it.

    Args:
        node: a transformation, or a number among the branches of a `fanout`.
        visit: the record of how `node` was lowered, or None without parameters.
        size: the function from a state to its size in bytes.
        first: what stands before the text of the first line.
        rest: what stands before the text of all other lines.
        name: the label of `node` in a `partition`.
    """
    text = first + name + (_line(node) if isinstance(node, Transform) else show(node))
    text = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
    counted = visit is not None and isinstance(node, Transform)
    yield Row(text, size(visit.state) if counted and visit is not None else None)
    below = _inside(node)
    visits = visit.inside if visit is not None else []
    for i, (name, inner) in enumerate(below):
        last = i == len(below) - 1
        yield from _rows(
            inner,
            visits[i] if i < len(visits) else None,
            size,
            rest + ("└── " if last else "├── "),
            rest + ("    " if last else "│   "),
            name,
        )


def _inside(node: Any) -> list[tuple[str, Any]]:
    """The parts of `node` in the order in which they are lowered, each with its label, if it has one."""
    if isinstance(node, partition):
        return [(f"{label}: ", tx) for label, tx in node.transforms.items()]
    if isinstance(node, fanout):
        return [("", branch) for branch in node.branches]
    return [("", tx) for tx in node.children] if isinstance(node, Transform) else []


def _line(node: Transform) -> str:
    """The class and the fields of `node`, without the fields that are drawn below it."""
    if isinstance(node, foreign):  # its fields are functions, whose origin is their only name
        init: Any = node.tx.init
        return f"foreign({init.__qualname__.split('.')[0]})"
    shown, keyword = [], False
    for field in dataclasses.fields(node):  # pyright: ignore[reportArgumentType]
        value = getattr(node, field.name)
        if _holds(value) and not isinstance(node, Recipe):
            keyword = True
        elif field.default is dataclasses.MISSING and not keyword:
            shown.append(show(value))
        elif field.default is dataclasses.MISSING or not is_default(value, field.default):
            shown.append(f"{field.name}={show(value)}")
    return type(node).__name__ + (f"({', '.join(shown)})" if shown else "")


def _size(count: int) -> str:
    """A number of bytes with a unit, such as "8.0 kB"."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 999.95 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _holds(value: Any) -> bool:
    """Whether the value of a field is, or contains, a transformation."""
    inside = (
        value.values() if isinstance(value, dict) else value if type(value) is tuple else [value]
    )
    return any(isinstance(x, Transform) for x in inside)

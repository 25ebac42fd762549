"""`summarize`: what a transformation consists of, what it keeps, and what it costs."""

import math
from typing import Any, NamedTuple

import jax

from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.places import cells_of
from gradtx._core.program import Program
from gradtx._core.terms import Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, is_inexact
from gradtx._show.arrays import HEADER, StateArray, state_arrays
from gradtx._show.compiled import Compiled, compiled as compile_update, parameters
from gradtx._show.html import columns, paragraph, table
from gradtx._show.text import size_of
from gradtx._show.tree import Row, rows


class Summary(NamedTuple):
    """The result of `summarize`, which prints as a drawing and a table.

    Attributes:
        rows: the lines of the drawing, each with the size of the state of its part.
        state_bytes: the size of the whole state; None if no parameters were passed.
        parameters: how many numbers are optimized.
        arrays: the entries of the state, each with name, dtype, size and sharding.
        compiled: what `jax.jit` compiles one update to; None if it was not asked for.
    """

    rows: tuple[Row, ...]
    state_bytes: int | None
    parameters: int
    arrays: tuple[StateArray, ...] = ()
    compiled: Compiled | None = None

    @property
    def total(self) -> str:
        """The last line: the size of the state."""
        if self.state_bytes is None:
            return ""
        text = f"{size_of(self.state_bytes)} of state for {self.parameters:,} parameters"
        if self.parameters:
            text += f", {self.state_bytes / self.parameters:.3g} bytes per parameter"
        here = sum(entry.bytes_per_device for entry in self.arrays)
        return text + (f", {size_of(here)} per device" if self.sharded else "")

    @property
    def sharded(self) -> bool:
        """Whether the parameters are sharded over several devices."""
        return any(entry.sharding for entry in self.arrays)

    def __repr__(self) -> str:
        if self.state_bytes is None:
            return "\n".join(row.text for row in self.rows)
        drawn = columns([(row.text, _size(row)) for row in self.rows], right=(1,))
        listed = columns(self._table, right=(2, 3, 4)) if self.arrays else []
        line = "─" * max(map(len, [*drawn, *listed]))
        ends = [self.total] if self.compiled is None else [self.total, str(self.compiled)]
        return "\n".join([*drawn, line, *listed, *([line] if listed else []), *ends])

    __str__ = __repr__

    @property
    def _table(self) -> list[tuple[str, ...]]:
        header = (*HEADER, "per device", "sharding") if self.sharded else HEADER
        return [header, *(entry.cells(self.sharded) for entry in self.arrays)]

    def _repr_html_(self) -> str:
        parts = [table(("transformation", "state"), [(row.text, _size(row)) for row in self.rows])]
        if self.arrays:
            parts.append(table(self._table[0], self._table[1:]))
        parts += [paragraph(x) for x in (self.total, str(self.compiled or "")) if x]
        return "".join(parts)


def _size(row: Row) -> str:
    return "" if row.state_bytes is None else size_of(row.state_bytes)


def summarize(
    tx: Transform, params: PyTree = None, *, compiled: bool = False, **extra: Any
) -> Summary:
    """A drawing of `tx` as a tree, with every number that acts, and a table of its state.

    Every recipe stands above the composition that it is short for, and every number is shown, defaults
    included. A learning rate that ascends and the curve of a schedule are shown as a comment.

    With `params`, every line of the tree ends with the size of the state that this part keeps for the
    parameters that reach it. The table lists the entries of the state by the names that `gradtx.get`
    takes. If the parameters are sharded, it also says how the entries are sharded where `init` is called
    outside `jax.jit`. No memory is allocated.

    Args:
        tx: a transformation.
        params: the parameters, or their `jax.ShapeDtypeStruct`s. None means a drawing without sizes.
        compiled: whether one update is also compiled, to count its operations, the bytes that they read
            and write, and its temporary memory. That takes as long as the compilation of a step.
        extra: the further keyword arguments that `update` needs, or their shapes, where it is compiled.

    Returns:
        A `Summary(rows, state_bytes, parameters, arrays, compiled)`, which prints as text, and which
        notebooks display as tables.

    Raises:
        TypeError: if `tx` is not a transformation.
        ValueError: if `compiled` is True and `params` is None.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.summarize(gradtx.sgd(0.1, momentum=0.9), {"w": jnp.ones((100, 10))})
    sgd(learning_rate=0.1, momentum=0.9)                     4.0 kB
    └── chain                                                4.0 kB
        ├── scale_by_momentum(decay=0.9, form='heavy_ball')  4.0 kB
        └── scale_by_learning_rate(learning_rate=0.1)           8 B
    ───────────────────────────────────────────────────────────────
    state                 dtype      size  per parameter
    0.trace               float32  4.0 kB            4 B
    1.step                int32       4 B
    1.last_learning_rate  float32     4 B
    ───────────────────────────────────────────────────────────────
    4.0 kB of state for 1,000 parameters, 4.01 bytes per parameter
    """
    check_arguments(summarize, locals())
    tx = as_transform(tx, "summarize(tx=...)")
    leaves, structure = flatten(params)
    if params is None:
        if compiled:
            raise ValueError(
                "`summarize(compiled=True)` needs the parameters or their shapes. Call "
                "`summarize(tx, params, compiled=True)`."
            )
        return Summary(tuple(rows(tx, None, lambda state: 0)), None, 0)
    shapes = [_shape(x) for x in leaves]
    root = Visit(None, [], [])
    program = Program(tx, shapes, structure, root)
    cells = jax.eval_shape(program.init_cells, shapes)
    sizes = [
        sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(cell)) for cell in cells
    ]

    def size(state: Any) -> int:
        return sum(sizes[number] for number in cells_of(state, len(shapes)))

    drawn = tuple(rows(tx, root.inside[0], size))
    state = program.layout.unflatten([cells[number] for number in program.numbers])
    cost = compile_update(tx, shapes, structure, root.inside[0], extra) if compiled else None
    arrays = state_arrays(state, shapes, structure)
    return Summary(drawn, drawn[0].state_bytes, parameters(shapes), arrays, cost)


def _shape(x: Any) -> Any:
    """The shape, dtype and sharding of a parameter; None for a leaf that is not optimized."""
    if not is_inexact(x):
        return None
    dtype = x.dtype if hasattr(x, "dtype") else jax.dtypes.canonicalize_dtype(type(x))
    sharding = getattr(x, "sharding", None)
    several = isinstance(sharding, jax.sharding.NamedSharding)
    return jax.ShapeDtypeStruct(
        getattr(x, "shape", ()), dtype, sharding=sharding if several else None
    )

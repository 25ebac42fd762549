"""`Matrixwise`: transformations written for one matrix at a time.

Which axes of a leaf are its matrix, the cast to float32, gathering what is sharded, and bringing
matrices of one shape together stand here, once.
"""

import functools
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from gradtx._core.authors import described, not_a_pair, not_matrices, undefined
from gradtx._core.dtypes import cast_floating, compute_dtype, like
from gradtx._core.layout import INNER, Layout
from gradtx._core.leaf import Split, picked, split
from gradtx._core.lowering import Lowering
from gradtx._core.numerics import squarable
from gradtx._core.sharding import is_sharded, replicated
from gradtx._core.stages import Call
from gradtx._core.terms import Stream, Term
from gradtx._core.unit import Elementwise, Unit
from gradtx._matrices.axes import MatrixAxes, hidden_matrices
from gradtx._matrices.groups import map_groups


class Matrixwise(Unit):
    """A transformation of one matrix at a time.

    Subclasses provide `update_matrix(x, state) -> (x, state)` for matrices `[batch, in, out]`, written
    with `@` and `.mT`; each matrix is treated by itself. They may provide `init_matrix(x) -> state`,
    whose arrays have the batch as their first axis, and `begin` and `measure` as in `Elementwise`.
    Stacked layers, experts, blocks of fused projections and convolutions arrive as a batch.

    Everything is float32 at least there, and gathered where it is sharded. Gradients come bounded to
    what can be squared, unless the class declares `linear = True`.

    Args:
        axes: the rule that says which axes of a leaf are its matrix; by default `hidden_matrices()`.

    Raises `ValueError` for a leaf with fewer than two axes, with its path.

    >>> import gradtx, jax.numpy as jnp
    >>> class whiten_rows(gradtx.Matrixwise):
    ...     def update_matrix(self, x, state):
    ...         return x / jnp.sqrt(jnp.sum(x * x, axis=-2, keepdims=True)), state
    >>> whiten_rows().update(jnp.array([[3.0, 0.5], [4.0, 0.0]]), ())[0]
    Array([[0.6, 1. ],
           [0.8, 0. ]], dtype=float32)
    """

    _: KW_ONLY
    axes: Any = hidden_matrices()

    _hooks = ("init_matrix", "update_matrix", "measure", "begin")
    linear = False
    # Whether one call for all matrices of one shape is faster, as it is for matrix products.
    grouped: ClassVar[bool] = False
    # Whether the transformation of a transpose is the transpose of the transformation.
    transposes: ClassVar[bool] = False

    def validate(self) -> None:
        if not hasattr(self.axes, "axes"):
            raise TypeError(
                f"`{type(self).__name__}(axes=...)` must be a rule with a method "
                f"`axes(path, leaf)` that returns `MatrixAxes`, such as `hidden_matrices()`, not "
                f"{described(self.axes)}."
            )

    if TYPE_CHECKING:  # how many arguments they take depends on what else the class defines
        init_matrix: ClassVar[Callable[..., Any]]
        update_matrix: ClassVar[Callable[..., Any]]
    else:

        def init_matrix(self, x: Any) -> Any:
            """The state of matrices `[batch, in, out]`. The default has none."""
            return INNER if self.wraps else Elementwise.init_leaf(self, x)  # pyright: ignore

        def update_matrix(self, x: jax.Array, state: Any, *more: Any) -> Any:
            """What happens to matrices `[batch, in, out]`: the new update and the new state."""
            raise undefined(self, "Matrixwise", "update_matrix")

    def init_unit(self, param: Any) -> Any:
        """The state of a matrix whose axes are its two, for a tree without leaves."""
        return _on_matrices(self, MatrixAxes((0,), (1,))).init_unit(param)

    @property
    def whole(self) -> bool:
        return self.grouped or super().whole

    def lower_unit(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any
    ) -> tuple[Stream, Any]:
        try:
            axes = matrix_axes(self.axes, low, streams[0])
        except ValueError as error:
            raise ValueError(f"`{type(self).__name__}`: {error}") from None
        bare = self.bare._with(axes=None)
        if self.grouped:
            return self._lower_group(low, streams, inner, axes)
        found: dict[MatrixAxes | None, Any] = {None: None}
        for a in axes:
            if a not in found:
                found[a] = _on_matrices(bare, a)
        return low.unit(self, streams, inner, [found[a] for a in axes])

    def _lower_group(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any, axes: list[Any]
    ) -> tuple[Stream, Any]:
        streams = tuple(low.compute(stream) for stream in streams)
        bare = self.bare._with(axes=None)
        variants = [None if a is None else _on_matrices(bare, a) for a in axes]
        call, state = low.call(self, streams, inner, variants)
        low.begin()
        sources = [next((t.register for t in s if t is not None), -1) for s in streams]
        stage = Together(call, bare, axes, sources, low.register())
        low.stages.append(stage)
        term = Term(None, None, (), stage.result)
        return [None if x is None else term for x in streams[0]], state

    def apply_matrices(self, xs: list[jax.Array], state: Any, told: Any) -> Any:
        """`update_matrix` as the library calls it, on matrices."""
        more = (told,) if self.begins or self.measures else ()
        if type(self).linear is False:  # products and their sums stay finite, and twice as much
            terms = 4 * max(xs[0][0].size, 1) if len(xs[0]) else 1
            xs = [x if self.wraps and i == 0 else squarable(x, terms) for i, x in enumerate(xs)]
        result = self.update_matrix(xs[0], state, *xs[1:], *more)
        if not isinstance(result, tuple) or len(result) != 2:
            raise not_a_pair(self, result, "return x, state")
        if getattr(result[0], "shape", None) != xs[0].shape:
            raise not_matrices(self, result[0], xs[0].shape)
        return result


class _on_matrices(Elementwise):
    """A transformation of matrices as one of the leaf that they are the axes of."""

    unit: Unit
    axes: Any
    linear = False

    def with_values(self, values: dict[str, Any]) -> Any:
        return self._with(unit=self.unit.with_values(values))

    def init_unit(self, param: Any) -> Any:
        unit: Any = self.unit

        def init(param: Any) -> Any:
            x = self.axes.split(param)
            return unit.init_matrix(x, INNER) if unit.wraps else unit.init_matrix(x)

        if not isinstance(param, jax.ShapeDtypeStruct) and not is_sharded(param):
            return init(param)
        # Without the parameter's numbers, which the state does not depend on.
        return jax.jit(lambda: init(jnp.zeros(param.shape, param.dtype)))()

    def apply_leaf(self, args: list[jax.Array], state: Any, param: Any, told: Any) -> Any:
        unit: Any = self.unit
        gathered = [replicated(x) for x in args]
        matrices = [self.axes.split(x) for x, _ in gathered]
        x, state = unit.apply_matrices(matrices, state, told)
        return gathered[0][1](self.axes.join(x, args[0].shape)), state


class Together:
    """A stage that works on the matrices of all leaves, those of one shape in one call."""

    def __init__(
        self, call: Call, tx: Any, axes: list[Any], sources: list[int], result: int
    ) -> None:
        self.call, self.axes, self.sources, self.result = call, axes, sources, result
        self.tx, self.arrays = split(tx)
        self.transposes = tx.transposes
        self.leaves = [i for i, a in enumerate(axes) if a is not None]

    def run(self, frame: Any) -> None:
        told = frame.told[self.call] if self.call.begins else ((), None)
        inputs = [frame.registers[source] for source in self.sources]
        leaves = [i for i in self.leaves if inputs[0][i] is not None]
        stacks, backs = [], []
        for i in leaves:
            dtype = compute_dtype(*(x[i] for x in inputs))
            gathered = [replicated(x[i].astype(dtype)) for x in inputs]
            backs.append(gathered[0][1])
            matrices = [self.axes[i].split(x) for x, _ in gathered]
            state = [frame.cells[first + i] for first in self.call.slots]
            stacks.append((*matrices, *state))
        f = functools.partial(
            _update_matrices,
            self.tx,
            self.call.layout,
            self.call.scheduled,
            len(inputs),
            self.arrays,
            told,
        )
        out: list[Any] = [None] * len(self.axes)
        try:
            results = map_groups(f, stacks, transposes=self.transposes)
        except Exception as error:
            ends = [frame.low.paths[i] or "." for i in (leaves[0], leaves[-1])]
            error.add_note(f"This is one of the matrices from `{ends[0]}` to `{ends[1]}`.")
            raise
        for i, back, (x, *state) in zip(leaves, backs, results, strict=True):
            shape = inputs[0][i].shape
            out[i] = back(self.axes[i].join(x, shape))
            for first, new in zip(self.call.slots, state, strict=True):
                frame.cells[first + i] = new
        frame.registers[self.result] = out


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _update_matrices(
    key: Split,
    layout: Layout,
    scheduled: Any,
    count: int,
    arrays: Any,
    told: Any,
    *stacks: jax.Array,
) -> tuple[jax.Array, ...]:
    dtype = stacks[0].dtype
    tx = key.join(iter(cast_floating(arrays, dtype)), iter(()))
    values, now = cast_floating(told, dtype)
    if scheduled:
        tx = tx._with(**dict(zip(scheduled, values, strict=True)))
    old = list(stacks[count:])
    state = layout.fill(layout.arrays, cast_floating(old, dtype))
    x, new = tx.apply_matrices(list(stacks[:count]), state, now)
    return x.astype(dtype), *like(picked(tx, layout, new, old), old)


def matrix_axes(rule: Any, low: Lowering, stream: Stream) -> list[MatrixAxes | None]:
    """The matrix of every leaf of a stream by a rule, None for leaves that it does not hold."""
    known = low.once(("axes", rule), dict)
    for i, term in enumerate(stream):
        if term is not None and i not in known:
            known[i] = rule.axes(low.paths[i], low.leaves[i])
    return [None if term is None else known[i] for i, term in enumerate(stream)]

"""`Matrixwise`, the base class of transformations that update one matrix at a time.

The base class finds the axes of the matrix in each leaf, casts to float32, and brings together what is
sharded (`mesh_stage.py`). For a class that declares `grouped = True`, matrices of one shape are brought
together on one device, too (`stage.py`).
"""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp

from gradtx._compose.labels import check_patterns
from gradtx._core.authors import not_a_pair, not_matrices, undefined
from gradtx._core.layout import INNER
from gradtx._core.layouts import add_adviser
from gradtx._core.lowering import Lowering
from gradtx._core.numerics import squarable
from gradtx._core.shapes import Matrices
from gradtx._core.terms import Stream, Term, register_of
from gradtx._core.unit import Elementwise, Unit
from gradtx._matrices.axes import MatrixAxes, MatrixRule, hidden_matrices
from gradtx._matrices.fallbacks import warn_in_shard_map
from gradtx._matrices.mesh_stage import MeshStage
from gradtx._matrices.on_matrices import on_matrices
from gradtx._matrices.stage import MatrixStage
from gradtx._matrices.traffic import gathering, moving


class Matrixwise(Unit):
    """A transformation of one matrix at a time.

    Subclasses provide `update_matrix(x, state) -> (x, state)` for matrices `[batch, in, out]`, written
    with `@` and `.mT`, so that every matrix of the batch is updated by itself. They may also provide

    - `init_matrix(x) -> state`: the state before the first step, a NamedTuple of arrays whose first axis
      is the batch.
    - `measure` and `begin`, as in `Elementwise`.

    Stacked layers, experts and the blocks of fused projections arrive as a batch. A convolution arrives
    as one matrix. In these methods arrays are float32 at least, and matrices are whole: on a mesh, the
    devices first exchange shards, so that each of them has some of the matrices. Entries of gradients
    that are too large for a product of two of them are clipped; an infinite entry still shows in the
    update. A class that never multiplies gradients declares `linear = True`, and its gradients are not
    clipped. A class with a field `exchange_dtype` says by it in which dtype its matrices travel between
    devices, as `orthogonalize_newton_schulz` does.

    Args:
        axes: the rule that says which axes of a leaf are its matrix: a value with a method
            `axes(path, leaf)` that returns `MatrixAxes`.

    Raises:
        ValueError: if a leaf has fewer than two axes. The message names its path.
        TypeError: if `axes` is not such a rule.

    >>> import gradtx, jax.numpy as jnp
    >>> class whiten_rows(gradtx.Matrixwise):
    ...     def update_matrix(self, x, state):
    ...         return x / jnp.sqrt(jnp.sum(x * x, axis=-2, keepdims=True)), state
    >>> whiten_rows().update(jnp.array([[3.0, 0.5], [4.0, 0.0]]), ())[0]
    Array([[0.6, 1. ],
           [0.8, 0. ]], dtype=float32)
    """

    _: KW_ONLY
    axes: MatrixRule = hidden_matrices()

    _hooks: ClassVar[tuple[str, ...]] = ("init_matrix", "update_matrix", "measure", "begin")
    linear = False
    _gathers = True  # on a mesh a stage of its own updates the matrices
    # Whether all matrices of one shape share one call, which is faster for matrix products.
    grouped: ClassVar[bool] = False
    # Whether transposing a matrix before the update is the same as transposing its update.
    transposes: ClassVar[bool] = False
    # Whether few products sum over the longer axis of a matrix, which may then stay sharded.
    few_long_products: ClassVar[bool] = False
    # Whether entries of a matrix meet only in sums over its axes, so that a matrix may stay sharded.
    only_sums: ClassVar[bool] = False

    def validate(self) -> None:
        dtype = getattr(self, "exchange_dtype", None)
        if dtype is not None and jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp:
            raise ValueError(
                f"`{type(self).__name__}(exchange_dtype={dtype!r})`: small entries of a matrix are zero "
                f"in {dtype}. Pass 'bfloat16', which has the range of float32, or None."
            )

    if TYPE_CHECKING:  # the number of their arguments depends on what else the class defines
        init_matrix: ClassVar[Callable[..., Any]]
        update_matrix: ClassVar[Callable[..., Any]]
    else:

        def init_matrix(self, x: Matrices) -> Any:
            """The state of matrices before the first step: a NamedTuple or tuple of arrays.

            The default returns the empty state `optax.EmptyState()`.

            Args:
                x: the matrices `[batch, in, out]`.
            """
            return INNER if self.wraps else Elementwise.init_leaf(self, x)  # pyright: ignore

        def update_matrix(self, x: Matrices, state: Any, *more: Any) -> Any:
            """The new update of matrices, and the new state of these matrices.

            Args:
                x: the gradient as matrices `[batch, in, out]`.
                state: the state of these matrices.
                more: in a wrapper first `given`, the gradient that `inner` was given; if the class
                    defines `begin` or `measure`, then the values that they hand to every leaf.
            """
            raise undefined(self, "Matrixwise", "update_matrix")

    def init_unit(self, param: Any) -> Any:
        """The state of one array with two axes; a tree without leaves takes its structure from here."""
        return on_matrices(self, MatrixAxes((0,), (1,))).init_unit(param)

    def init_matrices(self, x: Matrices) -> Any:
        """The state of matrices before the first step, also for a wrapper."""
        return self.init_matrix(x, INNER) if self.wraps else self.init_matrix(x)

    def lower_unit(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any
    ) -> tuple[Stream, Any]:
        try:
            axes = matrix_axes(self.axes, low, streams[0])
        except ValueError as error:
            raise ValueError(f"`{type(self).__name__}`: {error}") from None
        low.matrices.update(i for i, a in enumerate(axes) if a is not None)
        warn_in_shard_map(self, low, axes)
        add_adviser(low, gathering)
        add_adviser(low, moving)
        if low.on_mesh or any(a is not None and a.is_part for a in axes):
            return self._lower_on_mesh(low, streams, inner, axes)
        bare = self.bare._with(axes=None)
        if self.grouped:
            return self._lower_group(low, streams, inner, axes)
        found: dict[MatrixAxes | None, Any] = {None: None}
        for a in axes:
            if a not in found:
                found[a] = on_matrices(bare, a)
        return low.unit(self, streams, inner, [found[a] for a in axes])

    def _lower_group(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any, axes: list[Any]
    ) -> tuple[Stream, Any]:
        streams = tuple(low.compute(stream) for stream in streams)
        bare = self.bare._with(axes=None)
        variants = [None if a is None else on_matrices(bare, a) for a in axes]
        call, state = low.call(self, streams, inner, variants)
        low.flush_begins()
        sources = [next((t.register for t in s if t is not None), -1) for s in streams]
        stage = MatrixStage(call, bare, axes, sources, low.register())
        low.stages.append(stage)
        term = Term(None, None, (), stage.result)
        return [None if x is None else term for x in streams[0]], state

    def _lower_on_mesh(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any, axes: list[Any]
    ) -> tuple[Stream, Any]:
        last = low.stages[-1] if low.stages else None
        args = last.args_of(axes, streams) if isinstance(last, MeshStage) else None
        if args is None or self.measures:
            last, args = None, []
            streams = tuple(low.compute(stream) for stream in streams)
        bare = self.bare._with(axes=None)
        variants = [None if a is None else on_matrices(bare, a) for a in axes]
        call, state = low.call(self, streams, inner, variants)
        before = len(low.stages)
        low.flush_begins()
        if last is None:
            last = MeshStage(axes)
            args = [(-1 - last.source(register_of(stream)), None) for stream in streams]
            low.stages.append(last)
        elif len(low.stages) > before:
            begin = low.stages.pop()  # the stage needs what `begin` computes
            low.stages.insert(before - 1, begin)
        term = last.add(call, bare, args, low.register())
        return [None if x is None else term for x in streams[0]], state

    def apply_matrices(
        self, xs: list[Matrices], state: Any, from_begin: Any
    ) -> tuple[Matrices, Any]:
        """Call `update_matrix`, and check what it returns."""
        more = (from_begin,) if self.begins or self.measures else ()
        if type(self).linear is False:
            # A product of matrices sums products of entries. The bound keeps these sums finite.
            terms = 4 * max(math.prod(xs[0].shape[1:]), 1)
            xs = [x if self.wraps and i == 0 else squarable(x, terms) for i, x in enumerate(xs)]
        result = self.update_matrix(xs[0], state, *xs[1:], *more)
        if not isinstance(result, tuple) or len(result) != 2:
            raise not_a_pair(self, result, "return x, state")
        if getattr(result[0], "shape", None) != xs[0].shape:
            raise not_matrices(self, result[0], xs[0].shape)
        return result


def matrix_axes(rule: Any, low: Lowering, stream: Stream) -> list[MatrixAxes | None]:
    """The matrix axes of every leaf by `rule`, and None for leaves that `stream` does not hold.

    Raises:
        ValueError: if a leaf has fewer than two axes, or if a pattern of the rule matches no parameter.
    """
    known = low.once(("axes", rule), dict)
    if not known:
        check_patterns(rule, low, "axes=...")
    for i, term in enumerate(stream):
        if term is not None and i not in known:
            known[i] = rule.axes(low.paths[i], low.leaves[i])
    return [None if term is None else known[i] for i, term in enumerate(stream)]

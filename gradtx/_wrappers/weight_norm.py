"""Weight normalization: one optimizer turns the rows of matrices, and another sets their lengths."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.iterates import check_around
from gradtx._core.authors import described
from gradtx._core.dtypes import compute_dtype
from gradtx._core.foreign import AsTransform
from gradtx._core.inside import Leaves
from gradtx._core.latex import THETA, Page, Tex, fraction, plus, times
from gradtx._core.sharding import varying_like
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, Structure, flatten, paths
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.grids import (
    block_norms,
    grid_accumulator,
    in_blocks,
    matrix_grid,
    over_nonzero,
    update_to,
)

_LEAST = 1e-12  # in the place of the length of a row of zeros, which has no direction yet


class WeightNormState(NamedTuple):
    """The state of `weight_norm`.

    Attributes:
        lengths: the length $r$ of every row, and 0 before the first step.
        sizes: the norm of $v$ of every row, and 0 before the first step.
        directions: the state of the optimizer of $v$.
        gains: the state of the optimizer of $r$.
    """

    lengths: Any
    sizes: Any
    directions: Any
    gains: Any


class weight_norm(Transform):
    r"""Every row of a matrix is trained as a length and a direction, by two optimizers.

    $$ W_i = r_i\, \frac{v_i}{\|v_i\|}, \qquad
       \nabla_{r_i} = \langle G_i, v_i \rangle / \|v_i\|, \qquad
       \nabla_{v_i} = \frac{r_i}{\|v_i\|} \left(G_i - \nabla_{r_i} \frac{v_i}{\|v_i\|}\right) $$

    A row holds the incoming weights of one output. At the first step, $v = W$ and $r_i = \|W_i\|$. The
    model keeps $W$, so neither its code nor its gradients change. Both optimizers apply their own
    learning rates. This transformation must be the last in a chain.

    Args:
        directions: the optimizer of $v$, which has the shape and the path of the parameter.
        gains: the optimizer of $r$, an array that has a length of 1 along the inputs of the parameter.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `WeightNormState(lengths, sizes, directions, gains)`. It has two numbers per row, beside
    the states of the optimizers.

    Raises:
        TypeError: if an optimizer is not a transformation, or if `axes` is not a rule for matrices.
        ValueError: if a leaf has fewer than two axes, or if `update` is called without the parameters.

    Sources: Salimans & Kingma, 2016, arXiv:1602.07868, eq. 3; Lion et al., 2026, arXiv:2605.10797
    (Muown).

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.weight_norm(gradtx.sgd(0.1), gradtx.freeze())
    >>> w = jnp.array([[3.0], [4.0]])  # one row, which keeps its length
    >>> w += tx.update(jnp.array([[100.0], [0.0]]), tx.init(w), w)[0]
    >>> round(float(jnp.linalg.norm(w)), 4)
    5.0
    """

    directions: AsTransform
    gains: AsTransform
    axes: MatrixRule = hidden_matrices()
    linear = False

    def validate(self) -> None:
        for part in (self.directions, self.gains):
            check_around(self, part)
        if not callable(getattr(self.axes, "axes", None)):
            raise TypeError(
                "`weight_norm(axes=...)` must be a rule with a method `axes(path, leaf)` that returns "
                f"`MatrixAxes`, such as `hidden_matrices()`, not {described(self.axes)}."
            )

    def init_tree(self, params: PyTree) -> WeightNormState:
        leaves, structure = flatten(params)
        grids, numbers = self._grids(params), jax.tree.leaves(self)

        def zeros() -> PyTree:
            new = [
                None if g is None else varying_like(grid_accumulator(p, g), p, *numbers)
                for p, g in zip(leaves, grids, strict=True)
            ]
            return structure.unflatten(new)

        return WeightNormState(
            lengths=zeros(),
            sizes=zeros(),
            directions=self.directions.init_tree(params),
            gains=self.gains.init_tree(zeros()),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, WeightNormState]:
        if params is None:
            raise ValueError(
                "`weight_norm` divides the parameters into lengths and directions, so it needs the "
                "parameters: call `update(updates, state, params)`."
            )
        leaves, structure = flatten(updates)
        grids = self._grids(updates)
        owners, lengths, sizes = map(structure.flatten_up_to, (params, state.lengths, state.sizes))
        rows = [
            None if g is None else _Row(g, u, p, r, n)
            for g, u, p, r, n in zip(grids, leaves, owners, lengths, sizes, strict=True)
        ]

        def tree(name: str) -> PyTree:
            return structure.unflatten([x and getattr(x, name) for x in rows])

        turns, directions = self.directions.update_tree(
            tree("turn"), state.directions, tree("vector"), extra
        )
        grows, gains = self.gains.update_tree(tree("growth"), state.gains, tree("length"), extra)
        moved = [
            None if row is None else row.moved(turn, growth)
            for row, turn, growth in zip(
                rows, *map(structure.flatten_up_to, (turns, grows)), strict=True
            )
        ]
        out, lengths, sizes = (
            structure.unflatten(
                [old if x is None else x[k] for x, old in zip(moved, was, strict=True)]
            )
            for k, was in enumerate((leaves, lengths, sizes))
        )
        return out, WeightNormState(lengths, sizes, directions, gains)

    def given_inside(self, leaves: Leaves, structure: Structure) -> list[tuple[Any, Leaves]]:
        """What the optimizers are given (`gradtx/_core/inside.py`): the lengths have other shapes."""
        lengths = jax.eval_shape(self.init_tree, structure.unflatten(leaves)).lengths
        return [(self.directions, leaves), (self.gains, flatten(lengths)[0])]

    def _grids(self, tree: PyTree) -> list[Any]:
        """The grid of every leaf with one block per row, and None for an absent leaf."""
        leaves, _ = flatten(tree)
        try:
            return [
                None if x is None else matrix_grid(self.axes, path, x, "row")
                for path, x in zip(paths(tree), leaves, strict=True)
            ]
        except ValueError as error:
            raise ValueError(f"`weight_norm`: {error}") from None

    def tex(self, g: Tex, page: Page) -> Tex:
        g, old = page.symbol(g), Tex("v_{t-1}")
        words = r"\text{: the norm of the row that an entry lies in, one row per output}"
        product = r"\text{: the inner product of the rows that an entry lies in}"
        toward = page.define(
            "n", lambda _: fraction(old, page.norm(old, r"_{\mathrm{row}}", words))
        )
        along = page.define("a", lambda _: page.function("rowproduct", product, g, toward))
        rest = plus(g, times(along, toward), "-")
        factor = fraction(Tex("r_{t-1}"), page.norm(old, r"_{\mathrm{row}}", words))
        turn = page.define("d", lambda _: times(factor, rest))
        v = page.define("v", lambda _: plus(old, self.directions.tex(turn, page)))
        r = page.define("r", lambda _: plus(Tex("r_{t-1}"), self.gains.tex(along, page)))
        page.notes["v_0"] = r"= \theta_0"
        start = page.norm(Tex(r"\theta_0"), r"_{\mathrm{row}}", words)
        page.notes["r_0"] = f"= {start.text}"
        new = times(r, fraction(v, page.norm(v, r"_{\mathrm{row}}", words)))
        return plus(new, THETA, "-")


def _promoting(method: Any) -> Any:
    """The method under standard promotion, since complex rows have real lengths."""

    @functools.wraps(method)
    def call(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return method(*args)

    return call


class _Row:
    """The rows of one leaf as lengths and vectors, and the gradients of both."""

    @_promoting
    def __init__(self, grid: Any, g: jax.Array, w: jax.Array, length: Any, size: Any) -> None:
        dtype = compute_dtype(g, w)
        g, self._inside = in_blocks(g.astype(dtype), grid)
        self._w = w = w.astype(dtype)
        unit, ratio = block_norms(w, self._inside)
        norm = jnp.maximum(unit * ratio, _LEAST)
        self.length = jnp.where(length == 0, norm.astype(length.dtype), length)
        self._size = jnp.where(size == 0, norm.astype(size.dtype), size)
        # A length may have become negative; the direction is that of v.
        toward = over_nonzero(w / unit, ratio) * jnp.sign(self.length)
        self.growth = jnp.sum((g * toward.conj()).real, self._inside, keepdims=True)
        self.turn = self.length / self._size * (g - self.growth * toward)
        self.vector = self._size * toward
        # The vector is this number times the row.
        self._factor = self._size * over_nonzero(jnp.sign(self.length) / unit, ratio)

    @_promoting
    def moved(self, turn: jax.Array, growth: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The update of the leaf, its new lengths and the new norms of its vectors."""
        v, length = self.vector + turn, self.length + growth
        unit, ratio = block_norms(v, self._inside)
        new = length * over_nonzero(v / unit, ratio)
        factor = over_nonzero(length / unit, ratio)
        step = update_to(new, self._w, factor * self._factor, factor * turn)
        still = (growth == 0) & jnp.all(turn == 0, self._inside, keepdims=True)
        u = jnp.where(still, jnp.zeros_like(self._w), step)
        size = jnp.where(still, self._size, jnp.maximum(unit * ratio, _LEAST))
        return u, length, size

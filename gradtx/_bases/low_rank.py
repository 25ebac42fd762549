"""A basis of low rank: few directions of one side of each matrix."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._bases.basis import Basis, Now
from gradtx._bases.linear_algebra import adjoint, eigh, matmul, orthonormal, scaled
from gradtx._bases.sides import applied, check_counts, turned
from gradtx._core.dtypes import promote
from gradtx._core.shapes import InBasis, Matrices, Shapes


class LowRankState(NamedTuple):
    """The state of `low_rank`, where the side that is not projected has an array without entries.

    Attributes:
        left: the directions of the inputs, of shape `[batch, in, rank]`.
        right: the directions of the outputs, of shape `[batch, out, rank]`.
    """

    left: Annotated[jax.Array, "batch _ _"]
    right: Annotated[jax.Array, "batch _ _"]


class low_rank(Basis):
    r"""The projection of one side of each matrix to a few directions.

    $$ B g = P^H g, \qquad B^H y = P\, y, \qquad P^H P = I $$

    if the side of the inputs is projected, and $B g = g P$ for the outputs. The state of a
    transformation inside has the size of the projected matrix. The part of the gradient outside of the
    directions is lost until the next projection.

    Args:
        rank: the number of directions, 1 or more. A side that is not longer is turned and not shortened.
        every: the number of steps from one projection to the next.
        method: "svd" for the singular vectors of the present gradient with the largest singular values,
            or "random" for random directions.
        side: which side is projected: the "shorter" or the "longer" one, the "inputs" or the "outputs".
            Of two sides of equal length, the outputs count as the shorter one.

    The state is `LowRankState(left, right)`, of which one is $P$ and the other has no entries. In a
    refresh, an array of degree 1 is projected to the new directions, and every other array keeps its
    numbers. With `in_basis(..., on_refresh="keep")`, all arrays keep their numbers.

    Raises:
        ValueError: if a number lies outside its interval, or a word is unknown.

    Sources: Zhao et al., 2024, arXiv:2403.03507, algorithm 2 ("svd"); Zhu et al., 2024,
    arXiv:2412.05270 ("random").

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.in_basis(gradtx.low_rank(1), gradtx.scale_by_momentum())
    >>> state = tx.init(jnp.zeros((6, 4)))
    >>> state.basis.right.shape, state.inner.mu.shape
    ((1, 4, 1), (6, 1))
    """

    rank: int = 128
    every: int = 200
    method: Literal["svd", "random"] = "svd"
    side: Literal["shorter", "longer", "inputs", "outputs"] = "shorter"
    max_size = None

    def validate(self) -> None:
        check_counts(self)

    def size(self, inputs: int, outputs: int) -> tuple[int, int]:
        on_inputs, _ = turned(self, inputs, outputs)
        if on_inputs:
            return min(self.rank, inputs), outputs
        return inputs, min(self.rank, outputs)

    def init_matrix(self, x: Shapes) -> LowRankState:
        batch, *sizes = x.shape
        dtype = promote(x.dtype, jnp.float32)
        both = []
        for n, used in zip(sizes, turned(self, *sizes), strict=True):
            n = n if used else 0
            both.append(jnp.tile(jnp.eye(n, min(self.rank, n), dtype=dtype), (batch, 1, 1)))
        return LowRankState(*both)

    def into(self, x: Matrices, state: LowRankState) -> Any:
        return applied(adjoint(state.left), x, state.right)

    def back(self, y: InBasis, state: LowRankState) -> Matrices:
        return applied(state.left, y, adjoint(state.right))

    def refresh(self, x: Matrices, state: LowRankState, now: Now) -> LowRankState:
        unit = scaled(x)[0]
        left = self._directions(unit, state.left, now)
        return LowRankState(left, self._directions(adjoint(unit), state.right, now))

    def _directions(
        self, x: Matrices, p: Annotated[jax.Array, "batch _ rank"], now: Now
    ) -> Annotated[jax.Array, "batch _ rank"]:
        if not p.shape[-1]:
            return p
        if self.method == "random":
            return orthonormal(now.normal(p.shape, p.dtype))
        return eigh(matmul(x, adjoint(x)))[1][..., : p.shape[-1]]

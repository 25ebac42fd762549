"""Whitening by triangular factors that are fitted by a stochastic gradient method."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._bases.basis import Basis, Now
from gradtx._bases.linear_algebra import Square, adjoint, matmul, scaled
from gradtx._bases.sides import check_counts
from gradtx._core.dtypes import promote
from gradtx._core.numerics import nonzero_or_one
from gradtx._core.random_bits import mixed
from gradtx._core.shapes import InBasis, Matrices, Scalar, Shapes
from gradtx._core.values import Fixed, Hyper

# A triangle `[batch, n, n]`, or a diagonal `[batch, 1, n]`.
Factor = Annotated[jax.Array, "batch _ n"]


class FittedWhiteningState(NamedTuple):
    """The state of `fitted_whitening`.

    Attributes:
        left: the factor of the inputs: an upper triangle, of shape `[batch, in, in]`, or a diagonal, of
            shape `[batch, 1, in]`.
        right: the factor of the outputs, likewise.
    """

    left: Annotated[jax.Array, "batch _ _"]
    right: Annotated[jax.Array, "batch _ _"]


class fitted_whitening(Basis):
    r"""The gradients are whitened by a Kronecker product of two triangular matrices, which are fitted.

    $$ B g = Q_L\, g\, Q_R^T, \qquad
       Q_L \leftarrow Q_L - \mu\, \frac{\operatorname{triu}(A A^H - C C^H)}{\|A A^H + C C^H\|}\, Q_L,
       \qquad A = B (g + \delta v), \quad C = B^{-H} v $$

    and likewise for $Q_R$ with $A^T$ and $C^T$. Here $v$ is a matrix of normal random numbers, and the
    damping $\delta$ is the root of the rounding unit times the mean of $|g|$. At the fixed point,
    $B^H B$ is the inverse root of the covariance of the gradients. Nothing but triangular systems is
    solved. The norm is a lower bound, which two steps of the power method give.

    A gradient is learned before the step with it. What the basis learns from is the gradient that
    `in_basis` is given, so put a momentum in front to fit the momentum.

    Args:
        step_size: $\mu$, in (0, 1).
        probability: the probability that the factors are fitted at a step, in [0, 1], or a schedule.
            The choice is a hash of the number of the step, so that a run can be repeated.
        max_size: the longest side with a triangular factor; a longer side has a diagonal one. None
            accepts every length.
        initial_scale: the first $B$ is this number times the identity.

    The state is `FittedWhiteningState(left, right)`. In a refresh, the state of the transformation
    inside keeps its numbers.

    Raises:
        ValueError: if a number lies outside its interval.

    Sources: Li, 2015, arXiv:1512.04202; Li, 2024, arXiv:2402.11858, the group of triangular matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.in_basis(gradtx.fitted_whitening(max_size=4), gradtx.identity())
    >>> state = tx.init(jnp.zeros((8, 4)))
    >>> state.basis.left.shape, state.basis.right.shape
    ((1, 1, 8), (1, 4, 4))
    """

    step_size: Hyper = 0.1
    probability: Hyper = 1.0
    max_size: int | None = 8192
    initial_scale: Fixed = 1.0
    limits = {"step_size": "(0, 1)", "probability": "[0, 1]", "initial_scale": "(0, inf)"}

    def validate(self) -> None:
        check_counts(self)

    def init_matrix(self, x: Shapes) -> FittedWhiteningState:
        batch, *sizes = x.shape
        dtype, sides = promote(x.dtype, jnp.float32), []
        root = jnp.sqrt(jnp.asarray(self.initial_scale, jnp.finfo(dtype).dtype)).astype(dtype)
        for n in sizes:
            full = self.max_size is None or n <= self.max_size
            one = jnp.eye(n, dtype=dtype) if full else jnp.ones((1, n), dtype)
            sides.append(root * jnp.tile(one, (batch, 1, 1)))
        return FittedWhiteningState(*sides)

    def into(self, x: Matrices, state: FittedWhiteningState) -> Matrices:
        return _left(state.right, _left(state.left, x).mT).mT

    def back(self, y: Matrices, state: FittedWhiteningState) -> Matrices:
        left, right = (_adjoint(q) for q in state)
        return _left(right, _left(left, y).mT).mT

    def due(self, step: Scalar) -> Any:
        if isinstance(self.probability, float) and self.probability == 1:
            return True
        bits = mixed(jnp.asarray(step).astype(jnp.uint32) + np.uint32(0x9E3779B9))
        return bits.astype(jnp.float32) < jnp.asarray(self.probability, jnp.float32) * 2.0**32

    def refresh(self, x: Matrices, state: FittedWhiteningState, now: Now) -> FittedWhiteningState:
        v = now.normal(x.shape, x.dtype)
        real = jnp.finfo(x.dtype)
        damping = float(real.eps) ** 0.5 * jnp.mean(jnp.abs(x), (-2, -1), keepdims=True)
        a = self.into(x + damping.astype(x.dtype) * v, state)
        c = _solve(state.right, _solve(state.left, v).mT).mT
        left = self._fitted(state.left, a, c)
        right = self._fitted(state.right, a.mT, c.mT)
        # Equal sizes of both factors change nothing but keep each of them within range.
        sizes = [jnp.max(jnp.abs(q), (-2, -1), keepdims=True) for q in (left, right)]
        ratio = jnp.sqrt(nonzero_or_one(sizes[1]) / nonzero_or_one(sizes[0]))
        ratio = ratio.astype(left.dtype)
        return FittedWhiteningState(left * ratio, right / ratio)

    def _fitted(self, q: Factor, a: Any, c: Any) -> Factor:
        """A factor after one step, from what the columns of two matrices say about it."""
        # The ratio below does not depend on a common factor, which keeps the squares within range.
        largest = nonzero_or_one(
            jnp.maximum(*(jnp.max(jnp.abs(m), (-2, -1), keepdims=True) for m in (a, c)))
        ).astype(a.dtype)
        a, c = a / largest, c / largest
        rate = jnp.asarray(self.step_size, jnp.finfo(a.dtype).dtype)
        if _is_diagonal(q):
            first, second = (jnp.sum(jnp.square(jnp.abs(m)), -1)[..., None, :] for m in (a, c))
            norm = nonzero_or_one(jnp.max(first + second, -1, keepdims=True, initial=0))
            return q - (rate * (first - second) / norm).astype(q.dtype) * q
        first, second = matmul(a, adjoint(a)), matmul(c, adjoint(c))
        change = jnp.triu((first - second) * (rate / _norm(first + second)).astype(a.dtype))
        return q - matmul(change, q)

    def carry(self, y: InBasis, degree: int, old: Any, new: Any) -> InBasis:
        return y


def _is_diagonal(q: Factor) -> bool:
    return q.shape[-2] == 1 and q.shape[-1] != 1


def _left(q: Factor, x: Matrices) -> Matrices:
    """The product with a factor from the left."""
    return q.mT * x if _is_diagonal(q) else matmul(q, x)


def _adjoint(q: Factor) -> Factor:
    return q.conj() if _is_diagonal(q) else adjoint(q)


def _solve(q: Factor, v: Matrices) -> Matrices:
    """$Q^{-H} V$ for a factor."""
    if _is_diagonal(q):
        return v / q.mT.conj()
    return jax.scipy.linalg.solve_triangular(adjoint(q), v, lower=True)


def _norm(a: Square) -> Annotated[jax.Array, "batch 1 1"]:
    """A lower bound of the spectral norm of matrices that are positive semidefinite."""
    unit, largest = scaled(a)
    squares = jnp.sum(jnp.square(jnp.abs(unit)), -2)
    x = jnp.take_along_axis(unit, jnp.argmax(squares, -1)[..., None, None], -1)
    for _ in range(2):
        size = nonzero_or_one(jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x)), (-2, -1), keepdims=True)))
        x = matmul(unit, x / size.astype(x.dtype))
    bound = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(x)), (-2, -1), keepdims=True))
    return largest * nonzero_or_one(bound)

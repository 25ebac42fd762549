"""Sizes of matrices: inner products, root mean squares and operator norms."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex, fraction, times
from gradtx._core.numerics import filled_like, nonzero_or_one, sqrt
from gradtx._core.shapes import Matrices
from gradtx._matrices.matrixwise import Matrixwise


def _divided(x: Matrices) -> tuple[Any, Matrices]:
    """The largest entry of every matrix, and the matrix divided by it, so that squares are finite."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0)
    # XLA may multiply by the reciprocal of the unit, which must not be too small for the dtype.
    unit = nonzero_or_one(jnp.minimum(largest, jnp.finfo(x.dtype).max * 2.0**-16))
    unit = jax.lax.stop_gradient(unit)
    return unit, x / unit.astype(x.dtype)


class scale_by_dual_norm(Wrapper, Matrixwise):
    r"""The inner transformation's update of every matrix is multiplied by its product with the gradient.

    $$ u = \langle f(g), g \rangle\, f(g) $$

    If $f(g)$ is the direction of steepest descent under a norm, then the product is the dual norm of the
    gradient, and $u$ is the minimizer of $\|u\|^2 / 2 - \langle u, g \rangle$. For
    `orthogonalize_newton_schulz`, the dual norm is the nuclear norm, the sum of the singular values. So
    the update shrinks with the gradient, which that of Muon does not.

    Args:
        inner: the transformation $f$.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is the state of `inner`.

    Raises:
        TypeError: if `inner` is not a transformation, or `axes` is not a rule for matrices.
        ValueError: if a leaf has fewer than two axes.

    Source: Lau, Long & Su, 2025, arXiv:2505.21799.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_by_dual_norm(gradtx.scale_by_sign())
    >>> tx.update(jnp.array([[1.0, -2.0], [0.0, 4.0]]), ())[
    ...     0
    ... ]  # the sum of the absolute values is 7
    Array([[ 7., -7.],
           [ 0.,  7.]], dtype=float32)
    """

    linear = as_inner
    keeps_zero = True
    only_sums = True

    def update_matrix(self, x: Matrices, state: Any, given: Matrices) -> tuple[Matrices, Any]:
        unit, small = _divided(given)
        product = jnp.sum((x.conj() * small).real, axis=(-2, -1), keepdims=True)
        # In this order, an entry that is 0 stays 0 where the product with the unit is infinite.
        return (x * product.astype(x.dtype)) * unit.astype(x.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        u = page.symbol(self.inner.tex(g, page))
        words = r"\text{: the sum of the products of the entries of two matrices}"
        return times(page.function("inner", words, u, g), u)


class matrix_rms(Matrixwise):
    r"""Every entry of the update is the root mean square of its matrix.

    $$ u = \|g\|_F / \sqrt{m n} $$

    Args:
        axes: the rule that says which axes of a leaf are its matrix, of shape $m \times n$. Stacked
            layers are separate matrices.

    Raises:
        ValueError: if a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.matrix_rms().update(jnp.array([[3.0, 0.0], [0.0, 4.0]]), ())[0]
    Array([[2.5, 2.5],
           [2.5, 2.5]], dtype=float32)
    """

    linear = True  # it takes gradients of any size
    keeps_zero = True
    only_sums = True

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        unit, small = _divided(x)
        size = max(x.shape[-2] * x.shape[-1], 1)
        square = jnp.sum(jnp.square(jnp.abs(small)), axis=(-2, -1), keepdims=True) / size
        return filled_like(x, (unit * sqrt(square)).astype(x.dtype)), state

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the root mean square of one matrix}"
        return page.function("matrix rms", words, page.symbol(g))


class scale_to_operator_norm(Matrixwise):
    r"""Every matrix is divided by its largest singular value, and a matrix of zeros stays zero.

    $$ u = g / \|g\|_{\mathrm{op}} $$

    The largest singular value is computed from above, as the norm $(\operatorname{tr} (G G^T)^p)^{1/2p}$
    with $p = 2^k$, by $k$ products of the smaller square matrix with itself. For a matrix of rank $r$
    this is too large by a factor of at most $r^{1/2p}$: for $k = 5$ and $r = 1000$ at most 1.12.

    Args:
        steps: $k \ge 1$, the number of products.
        precision: the precision of products, as in `jax.numpy.matmul`. With None, accelerators round
            factors to fewer digits. Even 8 binary digits change the norm by less than 1e-4.
        axes: the rule that says which axes of a leaf are its matrix.

    Raises:
        ValueError: if `steps` is less than 1, or a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_to_operator_norm()
    >>> jnp.round(tx.update(jnp.array([[4.0, 0.0], [0.0, -8.0]]), ())[0], 4)
    Array([[ 0.5,  0. ],
           [ 0. , -1. ]], dtype=float32)
    """

    steps: int = 5
    precision: str | None = None
    linear = True  # it takes gradients of any size
    keeps_zero = True
    grouped = True
    transposes = True

    def validate(self) -> None:
        super().validate()
        if self.steps < 1:
            raise ValueError(f"`scale_to_operator_norm(steps={self.steps})` must be 1 or more.")

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        _, small = _divided(x)
        size = sqrt(jnp.sum(jnp.square(jnp.abs(small)), axis=(-2, -1), keepdims=True))
        small = small / nonzero_or_one(size).astype(x.dtype)
        wide = small if small.shape[-2] <= small.shape[-1] else small.mT
        gram = jnp.matmul(wide, wide.conj().mT, precision=self.precision)
        norm, power = jnp.ones_like(size), 1.0
        for _ in range(self.steps):
            # The largest eigenvalue of the Gram matrix is divided out before it is squared again.
            top = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
            top = nonzero_or_one(top)
            gram, power = gram / top.astype(x.dtype), power / 2
            norm = norm * top**power
            gram = jnp.matmul(gram, gram, precision=self.precision)
        top = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
        norm = norm * nonzero_or_one(top) ** (power / 2)
        return small / norm.astype(x.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        words = r"\text{: the largest singular value of one matrix, nearly}"
        return fraction(g, page.norm(g, r"_{\mathrm{op}}", words))

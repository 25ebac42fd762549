"""Products of matrices with updates, and matrices that are divided by their operator norm."""

from dataclasses import KW_ONLY
from typing import Any

import jax.numpy as jnp

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.latex import Page, Tex, times
from gradtx._core.shapes import Matrices
from gradtx._core.transform import Transform
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.norms import divided, matrix_norm


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
        unit, small = divided(given)
        product = jnp.sum((x.conj() * small).real, axis=(-2, -1), keepdims=True)
        # In this order, an entry that is 0 stays 0 where the product with the unit is infinite.
        return (x * product.astype(x.dtype)) * unit.astype(x.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        u = page.symbol(self.inner.tex(g, page))
        words = r"\text{: the sum of the products of the entries of two matrices}"
        return times(page.function("inner", words, u, g), u)


class scale_to_operator_norm(Recipe):
    r"""Every matrix is divided by its largest singular value, and a matrix of zeros stays zero.

    $$ u = g / \|g\|_{\mathrm{op}} $$

    The largest singular value is computed from above, as the `matrix_norm` of the order $2^{k+1}$. For a
    matrix of rank 1000 and $k = 5$, this is too large by a factor of at most 1.12.

    Args:
        steps: $k$, the number of products of a square matrix with itself, between 1 and 29.
        precision: the precision of products, as in `jax.numpy.matmul`. With None, accelerators round
            factors to fewer digits. Even 8 binary digits change the norm by less than 1e-4.
        axes: the rule that says which axes of a leaf are its matrix.

    Raises:
        ValueError: if `steps` is not between 1 and 29, if `precision` is unknown, or if a leaf has
            fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_to_operator_norm()
    >>> jnp.round(tx.update(jnp.array([[4.0, 0.0], [0.0, -8.0]]), ())[0], 4)
    Array([[ 0.5,  0. ],
           [ 0. , -1. ]], dtype=float32)
    """

    steps: int = 5
    precision: str | None = None
    _: KW_ONLY
    axes: MatrixRule = hidden_matrices()

    def validate(self) -> None:
        if not 1 <= self.steps <= 29:  # the order is a count of 32 bits
            raise ValueError(
                f"`scale_to_operator_norm(steps={self.steps})` must lie between 1 and 29."
            )
        super().validate()

    def expand(self) -> Transform:
        order = 2 ** (self.steps + 1)
        return identity() / matrix_norm(order, precision=self.precision, axes=self.axes)

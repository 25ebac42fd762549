"""The norm of every matrix as an update, so that quotients and products can use it."""

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.latex import Page, Tex, fraction
from gradtx._core.numerics import filled_like, nonzero_or_one, sqrt
from gradtx._core.shapes import Matrices
from gradtx._core.sizes import in_units, unit_of
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.precision import check_precision
from gradtx._transforms.block_norms import product


def divided(x: Matrices) -> tuple[Any, Matrices]:
    """The largest entry of every matrix, and the matrix divided by it, so that squares are finite."""
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0)
    unit = jax.lax.stop_gradient(unit_of(largest))
    return unit, in_units(x, unit)


class matrix_norm(Matrixwise):
    r"""Every entry of the update is a norm of its matrix.

    $$ u = \|g\|_p = \Big(\sum_i \sigma_i^p\Big)^{1/p} $$

    for the singular values $\sigma_i$ of the matrix. The order $p = 2$ gives the Frobenius norm, and
    large orders give the operator norm from above: for a matrix of rank $r$, the norm is too large by a
    factor of at most $r^{1/p}$, which is 1.12 for $p = 64$ and $r = 1000$.

    Args:
        order: $p$, a power of two. The norm is the trace of a power of $g g^T$, which is squared
            $\log_2 p - 1$ times.
        rms: whether the norm is divided by $\sqrt{m n}$. For the order 2, this is the root mean square
            of the matrix.
        precision: the precision of products, as in `jax.numpy.matmul`. With None, accelerators round
            factors to fewer digits. Even 8 binary digits change the norm by less than 1e-4.
        axes: the rule that says which axes of a leaf are its matrix, of shape $m \times n$. Stacked
            layers are separate matrices.

    Raises:
        ValueError: if `order` is not a power of two, if `precision` is unknown, or if a leaf has
            fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Carlson et al., 2015 (the normalized gradient of a layer).

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.matrix_norm().update(jnp.array([[3.0, 0.0], [0.0, 4.0]]), ())[0]
    Array([[5., 5.],
           [5., 5.]], dtype=float32)
    """

    order: int = 2
    rms: bool = False
    precision: str | None = None
    _: KW_ONLY
    axes: MatrixRule = hidden_matrices()
    linear = True  # it takes gradients of any size
    keeps_zero = True
    # The Frobenius norm is a sum over the entries, and other norms need products of matrices.
    only_sums = property(lambda self: self.order == 2)  # pyright: ignore
    grouped = transposes = property(lambda self: self.order > 2)  # pyright: ignore

    def validate(self) -> None:
        super().validate()
        check_precision(self.precision, "matrix_norm(precision=...)")
        if type(self.order) is not int or self.order < 2 or self.order & (self.order - 1):
            raise ValueError(
                f"`matrix_norm(order={self.order!r})` must be a power of two: 2 for the Frobenius "
                "norm, or a large one such as 64 for nearly the largest singular value."
            )

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        unit, small = divided(x)
        square = jnp.sum(jnp.square(jnp.abs(small)), axis=(-2, -1), keepdims=True)
        size = sqrt(square / (max(x.shape[-2] * x.shape[-1], 1) if self.rms else 1))
        if self.order > 2:
            size = size * self._excess(small / nonzero_or_one(sqrt(square)).astype(x.dtype))
        return filled_like(x, product(unit, size).astype(x.dtype)), state

    def _excess(self, x: Matrices) -> Any:
        """The norm of matrices whose Frobenius norm is 1."""
        wide = x if x.shape[-2] <= x.shape[-1] else x.mT
        gram = jnp.matmul(wide, wide.conj().mT, precision=self.precision)
        norm, power = 1.0, 1.0
        for _ in range(self.order.bit_length() - 2):
            # The trace of the Gram matrix is divided out before it is squared again.
            top = nonzero_or_one(jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None])
            gram, power = gram / top.astype(x.dtype), power / 2
            norm = norm * top**power
            gram = jnp.matmul(gram, gram, precision=self.precision)
        top = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
        return norm * nonzero_or_one(top) ** (power / 2)

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        if self.order == 2 and self.rms:
            words = r"\text{: the root mean square of one matrix}"
            return page.function("matrix rms", words, g)
        words = r"\text{: the Frobenius norm of one matrix}"
        if self.order > 2:
            words = rf"\text{{: the Schatten norm of order {self.order} of one matrix}}"
        norm = page.norm(g, "_F" if self.order == 2 else r"_{\mathrm{S}}", words)
        return fraction(norm, Tex(r"\sqrt{m n}")) if self.rms else norm

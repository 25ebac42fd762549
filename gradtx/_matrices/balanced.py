"""Orthogonalization whose rows have one norm, along the longer axis of a matrix."""

from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import nonzero_or_one, sqrt
from gradtx._core.shapes import Matrices
from gradtx._core.sizes import in_units, unit_of
from gradtx._core.values import Hyper
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.newton_schulz import newton_schulz
from gradtx._matrices.polar_express import MOST_STEPS
from gradtx._matrices.polynomials import Polynomials, resolve_coefficients
from gradtx._matrices.precision import check_precision


class orthogonalize_balanced(Matrixwise):
    r"""Every matrix is replaced by an orthogonal factor with equally long rows along the longer axis.

    $$ U = \operatorname{polar}(D\, G), \qquad
       D_i \leftarrow D_i \left( \frac{n / m}{\|U_i\|^2} \right)^\beta $$

    for a matrix with $m$ rows and $n < m$ columns, where $D$ is diagonal and starts with
    $1 / \|G_i\|$. The columns of $U$ are orthonormal, so its rows have the mean square norm $n / m$, and
    a few rounds bring all of them close to it. A square matrix is orthogonalized as in
    `orthogonalize_newton_schulz`, since all of its rows have norm one already.

    Args:
        coefficients: the polynomials of the Newton-Schulz iteration (`newton_schulz`).
        steps: how many polynomials are applied. None means 5, or the length of a table of triples.
        rounds: how many times each step computes the orthogonal factor, between 1 and 100.
        power: $\beta \ge 0$.
        dtype: the dtype of the matrices between products. None means the dtype of the update.
        precision: the precision of products, as in `jax.numpy.matmul`.
        axes: the rule that says which axes of a leaf are its matrix.

    Raises:
        ValueError: if a name is unknown, if `rounds` is not between 1 and 100, if `power` is negative,
            or if a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Dewulf et al., 2026, arXiv:2606.27715 (Aurora).

    >>> import gradtx, jax, jax.numpy as jnp
    >>> g = jax.random.normal(jax.random.key(0), (4, 16)) * jnp.arange(1.0, 17.0)[None, :]
    >>> u, _ = gradtx.orthogonalize_balanced(rounds=4).update(g, ())
    >>> norms = jnp.linalg.norm(u, axis=0)
    >>> bool((norms > 0.4).all() and (norms < 0.6).all())  # the root of 4 / 16 is 0.5
    True
    """

    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    rounds: int = 2
    power: Hyper = 0.5
    dtype: DTypeLike | None = None
    precision: str | None = None
    limits = {"power": "[0, inf)"}
    linear = True  # it takes gradients of any size
    keeps_zero = True
    grouped = True
    transposes = True

    def validate(self) -> None:
        super().validate()
        check_precision(self.precision, "orthogonalize_balanced(precision=...)")
        resolve_coefficients(self.coefficients, self.steps)
        if not 1 <= self.rounds <= MOST_STEPS:
            raise ValueError(
                f"`orthogonalize_balanced(rounds={self.rounds})` must lie between 1 and {MOST_STEPS}."
            )

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        wide = x.shape[-2] < x.shape[-1]
        tall = x.mT if wide else x
        m, n = tall.shape[-2:]
        if m == n:
            return self._polar(x), state
        # Rows of norm one: what is left of the diagonal matrix is the part that the rounds change.
        largest = jnp.max(jnp.abs(tall), axis=-1, keepdims=True, initial=0)
        rows = in_units(tall, unit_of(largest))
        size = sqrt(jnp.sum(jnp.square(jnp.abs(rows)), axis=-1, keepdims=True))
        rows = rows / nonzero_or_one(size).astype(x.dtype)
        out = self._polar(rows)
        scale, limits = jnp.ones_like(size), jnp.finfo(size.dtype)
        least = jnp.asarray(limits.tiny / limits.eps, size.dtype)  # of a row of zeros
        for _ in range(self.rounds - 1):
            square = jnp.sum(jnp.square(jnp.abs(out)), axis=-1, keepdims=True)
            grow = (n / m) / jnp.maximum(square, least)
            scale = scale * grow ** jnp.asarray(self.power, square.dtype)
            scale = scale / nonzero_or_one(jnp.max(scale, axis=-2, keepdims=True))
            out = self._polar(rows * scale.astype(x.dtype))
        return out.mT if wide else out, state

    def _polar(self, x: Matrices) -> Matrices:
        return newton_schulz(
            x, self.coefficients, steps=self.steps, dtype=self.dtype, precision=self.precision
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        words = (
            rf"\text{{: an orthogonal factor whose rows are equally long, by }}{self.rounds}"
            r"\text{ rounds of Newton-Schulz}"
        )
        return page.function("balanced", words, g)

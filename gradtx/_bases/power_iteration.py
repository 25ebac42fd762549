"""Orthogonalization of low rank by one step of the power method, with feedback of the error."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._bases.linear_algebra import adjoint, matmul, orthonormal
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, times
from gradtx._core.numerics import nonzero_or_one, sqrt
from gradtx._core.shapes import Matrices
from gradtx._core.sizes import in_units, unit_of
from gradtx._core.values import Hyper
from gradtx._matrices.matrixwise import Matrixwise


class LowRankMomentumState(NamedTuple):
    """The state of `orthogonalize_low_rank`.

    Attributes:
        mu: the momentum, without the part that was used already.
        directions: the directions of the outputs, of shape `[batch, out, rank]`.
    """

    mu: Matrices
    directions: Annotated[jax.Array, "batch out _"]


class orthogonalize_low_rank(Matrixwise):
    r"""Orthogonalize a momentum along few directions, and keep the rest of it for later steps.

    $$ M \leftarrow M + g, \qquad P = \mathrm{qr}(M Q), \quad R = M^H P, \qquad
       M \leftarrow M - (1 - b)\, P R^H, \quad Q = \text{columns of } R \text{ of norm one}, \qquad
       u = P Q^H $$

    One step of the power method follows the strongest singular vectors of the momentum $M$. What they do
    not hold remains in $M$.

    Args:
        decay: $b$, the share of the used part that remains in the momentum, in [0, 1).
        rank: the number of directions, 1 or more. None means as many as the shorter side is long.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `LowRankMomentumState(mu, directions)`.

    Raises:
        ValueError: if a number lies outside its interval, or a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Ahn et al., 2025, arXiv:2504.05295, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.orthogonalize_low_rank(rank=1), jnp.array([[3.0, 0.0], [4.0, 0.0]])
    >>> jnp.round(tx.update(w, tx.init(w))[0][:, 0], 3)
    Array([0.6, 0.8], dtype=float32)
    """

    decay: Hyper = 0.95
    rank: int | None = None
    limits = {"decay": "[0, 1)"}
    degrees = {"mu": 1, "directions": 0}
    keeps_zero = True

    def validate(self) -> None:
        super().validate()
        if self.rank is not None and self.rank < 1:
            raise ValueError(
                f"`orthogonalize_low_rank(rank={self.rank})` must be a whole number, 1 or more, or None."
            )

    def init_matrix(self, x: Matrices) -> LowRankMomentumState:
        batch, *sizes = x.shape
        rank = min(*sizes, *([] if self.rank is None else [self.rank]))
        mu = accumulator(x)
        # Random directions are not orthogonal to a gradient. All matrices may start with the same ones.
        first = jax.random.normal(jax.random.key(0), (sizes[1], rank), mu.dtype)
        return LowRankMomentumState(mu, jnp.tile(first, (batch, 1, 1)))

    def update_matrix(
        self, x: Matrices, state: LowRankMomentumState
    ) -> tuple[Matrices, LowRankMomentumState]:
        m = state.mu + x
        p = orthonormal(matmul(m, state.directions))
        r = matmul(adjoint(m), p)
        # The largest entry is divided out first, so that squares neither overflow nor vanish.
        q = in_units(r, unit_of(jnp.max(jnp.abs(r), -2, keepdims=True)))
        size = sqrt(jnp.sum(jnp.square(jnp.abs(q)), -2, keepdims=True))
        q = q / nonzero_or_one(size).astype(r.dtype)
        used = matmul(p, adjoint(r))
        # A direction in which the momentum is 0 stays, because a direction of zeros would never change.
        kept = jnp.where(size > 0, q, state.directions)
        return matmul(p, adjoint(q)), LowRankMomentumState(m - (1 - self.decay) * used, kept)

    def tex(self, g: Tex, page: Page) -> Tex:
        page.notes[r"\cdot^H"] = r"\text{: the conjugate transpose}"
        page.notes[r"P_t"] = r"\text{: orthonormal columns of }M_t Q_{t-1}"
        page.notes[r"R_t"] = r"\text{: the product }M_t^H P_t"
        page.notes[r"Q_t"] = r"\text{: the columns of }R_t\text{, scaled to norm one}"
        keep = page.complement(self.decay, r"\beta")
        used = times(keep, Tex(r"P_{t-1} R_{t-1}^H"))
        page.from_zero(page.define("M", lambda m: Tex(rf"{m}_{{t-1}} - {used.text} + {g.text}")))
        return Tex(r"P_t Q_t^H", 1)

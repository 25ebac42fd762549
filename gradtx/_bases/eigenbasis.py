"""The eigenvectors of the Gram matrices of the gradients, as a basis."""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._bases.basis import Basis, Now
from gradtx._bases.linear_algebra import (
    Square,
    adjoint,
    eigh,
    matmul,
    orthonormal,
    rayleigh,
    scaled,
)
from gradtx._bases.sides import Side, applied, check_counts, grams, squares
from gradtx._core.numerics import average, squarable
from gradtx._core.shapes import InBasis, Matrices, Shapes
from gradtx._core.values import Hyper


class EigenbasisState(NamedTuple):
    """The state of `eigenbasis`, where a side that is not turned has arrays without entries.

    Attributes:
        left: the average of $G G^H$, of shape `[batch, in, in]`.
        right: the average of $G^H G$, of shape `[batch, out, out]`.
        q_left: the basis of the inputs, one vector per column.
        q_right: the basis of the outputs, one vector per column.
    """

    left: Annotated[jax.Array, "batch _ _"]
    right: Annotated[jax.Array, "batch _ _"]
    q_left: Annotated[jax.Array, "batch _ _"]
    q_right: Annotated[jax.Array, "batch _ _"]


class eigenbasis(Basis):
    r"""The basis in which the average Gram matrices of the gradients are diagonal.

    $$ B g = Q_L^H\, g\, Q_R, \qquad L = Q_L \Lambda Q_L^H, \quad R = Q_R \Lambda' Q_R^H, \qquad
       L_t = b L_{t-1} + (1 - b)\, G_t G_t^H, \quad R_t = b R_{t-1} + (1 - b)\, G_t^H G_t $$

    The first basis is computed by an eigendecomposition. After that, on every `every`-th step, the
    columns of $Q$ are sorted by $\operatorname{diag}(Q^H L Q)$, and one step of the power method,
    $Q \leftarrow \mathrm{qr}(L Q)$, follows the eigenvectors. A gradient is learned after the step with
    it, so that it is not looked at in its own basis, where it would be diagonal.

    Where all gradients so far were 0 along several directions, the basis of these directions is
    arbitrary, and may differ between processors.

    Args:
        decay: $b$, in [0, 1).
        every: the number of steps from one basis to the next.
        method: how the basis is renewed: "qr" for a step of the power method, or "eigh" for an
            eigendecomposition.
        statistics: "gram" for the averages above, or "kl" for those that minimize the Kullback-Leibler
            divergence: $L$ then averages $G R^{-1} G^H / n$ and $R$ averages $G^H L^{-1} G / m$ for
            $m$ inputs and $n$ outputs, where the inverses are taken in the present basis, with
            eigenvalues of at least $10^{-6}$ of the largest one. In the first step they are the
            identity.
        side: which sides of a matrix are turned: "both", the "shorter" or the "longer" one, the
            "inputs" or the "outputs". With "kl", a side that is not turned counts as the identity.
        max_size: the longest side for which an eigenbasis is computed. A longer side is left
            unchanged. None accepts every length.
        first: what the first step does: "skip" only computes the basis and moves nothing, and "plain"
            takes a step in the basis of the parameters.

    The state is `EigenbasisState(left, right, q_left, q_right)`. In a refresh, an array of degree 1 is
    turned from the old basis into the new one, and the rows and columns of every other array are sorted
    like those of $Q$.

    Raises:
        ValueError: if a number lies outside its interval, or a word is unknown.

    Sources: Vyas et al., 2024, arXiv:2409.11321, algorithms 3 and 4; "kl": Lin et al., 2025,
    arXiv:2509.03378.

    >>> import gradtx
    >>> gradtx.in_basis(gradtx.eigenbasis(every=1), gradtx.scale_by_adam())
    in_basis(eigenbasis(every=1), scale_by_adam())
    """

    decay: Hyper = 0.95
    every: int = 10
    method: Literal["qr", "eigh"] = "qr"
    statistics: Literal["gram", "kl"] = "gram"
    side: Side = "both"
    max_size: int | None = 10_000
    first: Literal["skip", "plain"] = "skip"
    limits = {"decay": "[0, 1)"}
    learns_first = False
    rotation = True

    def validate(self) -> None:
        check_counts(self)

    @property
    def skips_first(self) -> bool:
        return self.first == "skip"

    def init_matrix(self, x: Shapes) -> EigenbasisState:
        return EigenbasisState(*squares(self, x), *squares(self, x, eye=True))

    def into(self, x: Matrices, state: EigenbasisState) -> Matrices:
        return applied(adjoint(state.q_left), x, state.q_right)

    def back(self, y: Matrices, state: EigenbasisState) -> Matrices:
        return applied(state.q_left, y, adjoint(state.q_right))

    def learn(self, x: Matrices, state: EigenbasisState, now: Now) -> EigenbasisState:
        left, right = self._whitened_grams(x, state) if self.statistics == "kl" else grams(x)
        new = {}
        for name, gram in (("left", left), ("right", right)):
            old = getattr(state, name)
            if old.shape[-1]:
                mean = average(old, gram, self.decay)
                # Sums of squares of the largest gradients may overflow; such a step is not learned.
                # The KL statistics are not a plain average: their first value is the first matrix.
                if self.statistics == "kl":
                    mean = jnp.where(now.step == 0, gram, mean)
                spoiled = jnp.isinf(mean).any((-2, -1), keepdims=True)
                new[name] = jnp.where(spoiled, old, mean)
        return state._replace(**new)

    def _whitened_grams(self, x: Matrices, state: EigenbasisState) -> tuple[Any, Any]:
        """$G R^{-1} G^H / n$ and $G^H L^{-1} G / m$."""
        over_left, over_right = adjoint(x), x
        if state.left.shape[-1]:
            over_left = self._root_inverse(adjoint(x), state.left, state.q_left)
        if state.right.shape[-1]:
            over_right = self._root_inverse(x, state.right, state.q_right)
        left = matmul(over_right, adjoint(over_right)) / max(x.shape[-1], 1)
        right = matmul(over_left, adjoint(over_left)) / max(x.shape[-2], 1)
        return left, right

    def _root_inverse(self, x: InBasis, gram: Square, q: Square) -> InBasis:
        """$X Q \\Lambda^{-1/2}$ for the Gram matrix $Q \\Lambda Q^H$; $X$ if the latter is 0."""
        values = rayleigh(gram, q)
        largest = jnp.max(values, -1, keepdims=True, initial=0)
        values = jnp.where(largest > 0, jnp.maximum(values, 1e-6 * largest), jnp.ones_like(values))
        turned = matmul(x, q) * (1 / jnp.sqrt(values))[..., None, :].astype(x.dtype)
        return squarable(turned, 4 * max(x.shape[-1] * x.shape[-2], 1))

    def refresh(self, x: Matrices, state: EigenbasisState, now: Now) -> EigenbasisState:
        q_left = self._refreshed(state.left, state.q_left)
        return state._replace(q_left=q_left, q_right=self._refreshed(state.right, state.q_right))

    def _refreshed(self, gram: Square, q: Square) -> Square:
        if not q.shape[-1]:
            return q
        unit = scaled(gram)[0]
        if self.method == "eigh":
            return eigh(unit)[1]
        # Only a basis that was never computed is the identity to the last bit.
        new = jnp.all(q == jnp.broadcast_to(jnp.eye(q.shape[-1], dtype=q.dtype), q.shape))

        def power_step() -> Square:
            return orthonormal(matmul(unit, _sorted(q, _order(gram, q), -1)))

        return jax.lax.cond(new, lambda: eigh(unit)[1], power_step)

    def carry(self, y: InBasis, degree: int, old: EigenbasisState, new: EigenbasisState) -> InBasis:
        if degree == 1:
            return super().carry(y, degree, old, new)
        for axis, gram, q in ((-2, new.left, old.q_left), (-1, new.right, old.q_right)):
            if q.shape[-1]:
                y = _sorted(y, _order(gram, q), axis)
        return y


def _order(gram: Square, q: Square) -> Annotated[jax.Array, "batch n"]:
    """The columns of a basis in the order of falling eigenvalues."""
    return jnp.argsort(-rayleigh(scaled(gram)[0], q), axis=-1)


def _sorted(y: InBasis, order: Annotated[jax.Array, "batch n"], axis: int) -> InBasis:
    shape = (*order.shape, 1) if axis == -2 else (order.shape[0], 1, order.shape[1])
    return jnp.take_along_axis(y, order.reshape(shape), axis=axis)

"""Products and decompositions of matrices in full precision, with derivatives that stay finite.

On a GPU, products of float32 matrices are rounded to fewer digits by default. The eigenvalues of a Gram
matrix that was rounded so are known to make training unstable, so everything here asks for all digits.
"""

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gradtx._core.shapes import Matrices
from gradtx._core.sizes import in_units, unit_of

Square = Annotated[jax.Array, "batch n n"]
Vectors = Annotated[jax.Array, "batch n"]


def matmul(
    a: Annotated[jax.Array, "... m k"], b: Annotated[jax.Array, "... k n"]
) -> Annotated[jax.Array, "... m n"]:
    """The product of two stacks of matrices, with all digits."""
    return jnp.matmul(a, b, precision="highest")


def adjoint(a: Annotated[jax.Array, "*batch m n"]) -> Annotated[jax.Array, "*batch n m"]:
    """The conjugate transpose."""
    return a.mT.conj()


def diagonal(a: Square) -> Vectors:
    """The real diagonal."""
    return jnp.diagonal(a, axis1=-2, axis2=-1).real


def rayleigh(gram: Square, q: Square) -> Vectors:
    r"""The diagonal of $Q^H G Q$, which are estimates of the eigenvalues of $G$."""
    return jnp.sum((q.conj() * matmul(gram, q)).real, -2)


def scaled(a: Matrices) -> tuple[Matrices, Annotated[jax.Array, "batch 1 1"]]:
    """Matrices divided by their largest entry, and this entry; it is 1 for a matrix of zeros."""
    largest = unit_of(jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True, initial=0))
    # A NaN must not be hidden, and `unit_of` gives 1 for it.
    return in_units(a, largest), largest


@jax.custom_jvp
def eigh(a: Square) -> tuple[Vectors, Square]:
    """The eigenvalues in falling order, and the eigenvectors as columns."""
    with jax.default_matmul_precision("highest"):
        values, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    return values[..., ::-1], vectors[..., ::-1]


@eigh.defjvp
def _eigh_jvp(primals: Any, tangents: Any) -> Any:
    # JAX's own derivative divides by the differences of eigenvalues. Among equal ones, eigenvectors
    # have no derivative, and 0 takes its place.
    (a,), (da,) = primals, tangents
    values, vectors = eigh(a)
    inner = matmul(adjoint(vectors), matmul((da + adjoint(da)) / 2, vectors))
    gaps = values[..., None, :] - values[..., :, None]
    small = (
        jnp.abs(gaps)
        <= values.shape[-1]
        * jnp.finfo(values.dtype).eps
        * jnp.max(jnp.abs(values), -1, initial=0)[..., None, None]
    )
    turn = jnp.where(small, jnp.zeros_like(inner), inner / jnp.where(small, 1, gaps))
    return (values, vectors), (diagonal(inner), matmul(vectors, turn))


@jax.custom_jvp
def orthonormal(a: Matrices) -> Matrices:
    """The factor Q of the QR decomposition, whose columns are orthonormal."""
    with jax.default_matmul_precision("highest"):
        return jnp.linalg.qr(a).Q


@orthonormal.defjvp
def _orthonormal_jvp(primals: Any, tangents: Any) -> Any:
    # Where columns depend on those before them, JAX's own derivative divides by 0. Here it is 0.
    (a,), (da,) = primals, tangents
    q = orthonormal(a)
    r = matmul(adjoint(q), a)
    sizes = jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))
    eps = jnp.finfo(sizes.dtype).eps
    small = sizes <= r.shape[-1] * eps * jnp.max(sizes, -1, keepdims=True, initial=0)
    eye = jnp.broadcast_to(jnp.eye(r.shape[-1], dtype=r.dtype), r.shape)
    triangle = jnp.triu(jnp.where(small[..., None, :], eye, r))
    inside = matmul(adjoint(q), da)
    ratio = jax.scipy.linalg.solve_triangular(triangle.mT, inside.mT, lower=True).mT
    ratio = jnp.where(small[..., None, :], jnp.zeros_like(ratio), ratio)
    lower = jnp.tril(ratio, -1)
    turn = matmul(q, lower - adjoint(lower))
    if a.shape[-2] > a.shape[-1]:
        outside = da - matmul(q, inside)
        turn += jax.scipy.linalg.solve_triangular(triangle.mT, outside.mT, lower=True).mT
    return q, turn


@jax.custom_jvp
def inverse_power(a: Square, power: Any, ridge: Any) -> Square:
    r"""$(A + \rho I)^{-p}$ of matrices that are positive semidefinite up to rounding.

    Without a ridge, directions in which $A$ is 0 up to rounding get the factor 0.

    Args:
        a: the matrices.
        power: $p$, a scalar.
        ridge: $\rho \ge 0$, one number per matrix, of shape `[batch, 1]`.
    """
    vectors, _, factors = _spectrum(a, power, ridge)
    return matmul(vectors * factors[..., None, :].astype(a.dtype), adjoint(vectors))


def _spectrum(a: Square, power: Any, ridge: Any) -> tuple[Square, Vectors, Vectors]:
    """The eigenvectors, the eigenvalues with the ridge, and the factors."""
    unit, largest = scaled(a)
    largest = largest[..., 0]
    values, vectors = eigh(unit)
    values = jnp.maximum(values, 0)
    rounding = values.shape[-1] * jnp.finfo(values.dtype).eps * jnp.max(values, -1, keepdims=True)
    nonzero = (values > rounding) | (ridge > 0)
    total = values * largest + ridge
    nonzero &= total > 0
    safe = jnp.where(nonzero, total, jnp.ones_like(total))
    return vectors, safe, jnp.where(nonzero, safe ** (-power), jnp.zeros_like(safe))


@inverse_power.defjvp
def _inverse_power_jvp(primals: Any, tangents: Any) -> Any:
    # The derivative of a matrix function by Daleckii and Krein.
    (a, power, ridge), (da, d_power, d_ridge) = primals, tangents
    vectors, values, factors = _spectrum(a, power, ridge)
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    inner = matmul(adjoint(vectors), matmul((da + adjoint(da)) / 2, vectors))
    inner += d_ridge[..., None].astype(a.dtype) * eye
    gaps = values[..., :, None] - values[..., None, :]
    size = values[..., :, None] + values[..., None, :]
    near = jnp.abs(gaps) <= 1e-4 * size
    apart = (factors[..., :, None] - factors[..., None, :]) / jnp.where(near, 1, gaps)
    # Close to the diagonal, the slope at the mean takes the place of the quotient, whose digits cancel.
    here = (factors > 0)[..., :, None] & (factors > 0)[..., None, :]
    slope = jnp.where(here, -power * (size / 2) ** (-power - 1), jnp.zeros_like(size))
    change = inner * jnp.where(near, slope, apart).astype(a.dtype)
    logs = jnp.where(factors > 0, -jnp.log(values) * factors, jnp.zeros_like(values))
    change += (logs * d_power)[..., None].astype(a.dtype) * eye
    change = matmul(vectors, matmul(change, adjoint(vectors)))
    return inverse_power(a, power, ridge), change

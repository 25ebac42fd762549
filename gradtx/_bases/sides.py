"""Which sides of a matrix a basis turns, and the Gram matrices of these sides.

A matrix is `[in, out]`. The Gram matrix of its inputs is $G G^H$, of size (in, in), and that of its
outputs is $G^H G$, of size (out, out).
"""

from typing import Annotated, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from gradtx._bases.linear_algebra import adjoint, matmul
from gradtx._core.dtypes import promote
from gradtx._core.shapes import InBasis, Matrices, Shapes

Side: TypeAlias = Literal["both", "shorter", "longer", "inputs", "outputs"]

OfInputs = Annotated[jax.Array, "batch in in"]
OfOutputs = Annotated[jax.Array, "batch out out"]


def turned(basis: Any, inputs: int, outputs: int) -> tuple[bool, bool]:
    """Whether a basis with the fields `side` and `max_size` turns the inputs and the outputs.

    Of two sides of equal length, the outputs count as the shorter one.
    """
    wanted = {
        "both": (True, True),
        "inputs": (True, False),
        "outputs": (False, True),
        "shorter": (inputs < outputs, outputs <= inputs),
        "longer": (inputs >= outputs, outputs > inputs),
    }[basis.side]
    limit = basis.max_size
    fits = [limit is None or n <= limit for n in (inputs, outputs)]
    return wanted[0] and fits[0], wanted[1] and fits[1]


def check_counts(basis: Any) -> None:
    """Check the fields `max_size`, `every` and `rank` of a basis.

    Raises:
        ValueError: if one of them is less than 1.
    """
    name = type(basis).__name__
    for field in ("every", "max_size", "rank"):
        count = getattr(basis, field, None)
        if count is not None and count < 1:
            raise ValueError(
                f"`{name}({field}={count!r})` must be a whole number, 1 or more"
                + (", or None." if field == "max_size" else ".")
            )


def squares(basis: Any, x: Shapes, eye: bool = False) -> list[InBasis]:
    """For both sides a square matrix of zeros, or the identity; without entries for a side not turned.

    Args:
        basis: the basis.
        x: an object with the shape and the dtype of the matrices.
        eye: whether the matrices are the identity.
    """
    batch, *sizes = x.shape
    dtype = promote(x.dtype, jnp.float32)
    out = []
    for n, used in zip(sizes, turned(basis, *sizes), strict=True):
        n = n if used else 0
        one = jnp.eye(n, dtype=dtype) if eye else jnp.zeros((n, n), dtype)
        out.append(jnp.tile(one, (batch, 1, 1)))
    return out


def grams(
    x: Matrices,
) -> tuple[OfInputs, OfOutputs]:
    """The Gram matrices of the inputs and of the outputs."""
    return matmul(x, adjoint(x)), matmul(adjoint(x), x)


def applied(left: InBasis, x: InBasis, right: InBasis) -> InBasis:
    """`left @ x @ right`, where a factor without entries is the identity."""
    x = matmul(left, x) if left.size else x
    return matmul(x, right) if right.size else x

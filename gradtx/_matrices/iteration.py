r"""The steps of a Newton-Schulz iteration, in two forms.

Each step applies an odd polynomial to the singular values, $X \leftarrow a X + Z X$ with
$Z = b R + c R^2$ and $R = X X^H$. Several steps can be computed in two forms:

- standard: $R$ is computed anew for every step.
- Gram: $X$ is left alone, and only $m \times m$ matrices are updated, $Q \leftarrow Q (Z + a I)$ from
  $Q = I$, and $R \leftarrow (Z + a I) R (Z + a I)$. At the end $X \leftarrow Q X$.

In exact arithmetic both forms agree. With rounding, the Gram form needs restarts, where it sets
$X \leftarrow Q X$ and computes $R$ anew; `restarts.py` decides after which steps. The standard form
restarts after every step.
"""

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gradtx._core.numerics import abs_square, sqrt
from gradtx._matrices.restarts import Segments

# Any number of axes, then a matrix, or one number for each matrix.
Stack = Annotated[jax.Array, "*batch m n"]
PerMatrix = Annotated[jax.Array, "*batch 1 1"]


def frobenius(x: Stack) -> PerMatrix:
    """The Frobenius norm of every matrix."""
    return sqrt(jnp.sum(abs_square(x), axis=(-2, -1), keepdims=True))


def divide(x: Stack, size: PerMatrix) -> Stack:
    """Every matrix divided by its size; a matrix of size 0 is unchanged."""
    # Only zero is replaced, so that an infinity or a NaN in the matrix makes the result NaN.
    return x / jnp.where(size == 0, 1, size).astype(x.dtype)


def iterate(
    x: Stack,
    segments: Segments,
    norm: str,
    dtype: Any,
    precision: Any,
    symmetric: bool,
    sum_first: bool,
) -> Stack:
    """Apply the segments to matrices `[..., m, n]` of norm one.

    Products are summed in the dtype of `x`, and their operands are rounded to `dtype`. With `sum_first`,
    $(Z + a I) X$ is computed and not $Z X + a X$, and a product leaves in `dtype` too.
    """
    wide = x.dtype
    options: Any = {"precision": precision, "preferred_element_type": dtype if sum_first else wide}
    dot = functools.partial(jnp.matmul, **options)
    # In place of `dot(x, x.mT)`, which XLA:CPU carries out in bfloat16 with a transposition, at half
    # the speed.
    inner = functools.partial(jnp.einsum, "...ik,...jk->...ij", **options)

    half = x.shape[-2] // 2

    def hermitian(p: jax.Array, q: jax.Array) -> jax.Array:
        return _mirrored(dot, p, q, q[..., half:]) if symmetric else dot(p, q)

    def gram(x: jax.Array) -> jax.Array:
        y = x.conj()
        return _mirrored(inner, x, y, y[..., half:, :]) if symmetric else inner(x, y)

    eye = jnp.eye(x.shape[-2], dtype=wide).reshape(*(1,) * (x.ndim - 2), *2 * x.shape[-2:-1])

    # Q and R must be updated with the same Z. If one of them kept digits that the other has lost, the
    # Gram form would be less stable (measured), so every operand is rounded before a product reads it.
    def plus(product: jax.Array, a: float, value: jax.Array) -> jax.Array:
        return product if sum_first else (product + a * value.astype(wide)).astype(dtype)

    x = x.astype(dtype)
    for number, segment in enumerate(segments):
        r, q = gram(x), None
        if number == 0 and norm == "schatten":
            size = frobenius(r.astype(wide))
            r, x = divide(r.astype(wide), size), divide(x.astype(wide), sqrt(size)).astype(dtype)
        r = r.astype(dtype)
        for step, (a, b, c) in enumerate(segment):
            z = b * r.astype(wide)
            z = c * hermitian(r, r).astype(wide) + z if c else z
            z = (z + a * eye if sum_first else z).astype(dtype)
            if len(segment) == 1:
                x = plus(dot(z, x), a, x)
            elif q is None:
                q = z if sum_first else plus(z.astype(wide), a, eye)
            else:
                q = plus(hermitian(q, z), a, q)
            if step < len(segment) - 1:
                zr = plus(hermitian(z, r), a, r)
                r = plus(hermitian(zr, z), a, zr)
        x = x if q is None else dot(q, x).astype(dtype)
    return x


def _mirrored(
    product: Any,
    p: Annotated[jax.Array, "*batch m _"],
    q: Annotated[jax.Array, "*batch _ _"],
    right: Annotated[jax.Array, "*batch _ _"],
) -> Annotated[jax.Array, "*batch m m"]:
    """The Hermitian matrix `product(p, q)`, whose lower left block is mirrored and not computed.

    `right` is the part of `q` that gives the right half of the columns.
    """
    half = p.shape[-2] // 2
    upper = product(p[..., :half, :], q)
    lower = [upper[..., :, half:].mT.conj(), product(p[..., half:, :], right)]
    return jnp.concatenate([upper, jnp.concatenate(lower, axis=-1)], axis=-2)

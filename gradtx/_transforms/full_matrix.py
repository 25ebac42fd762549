"""Full-matrix AdaGrad, which divides the gradient by the root of the sum of all outer products."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import promote
from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import everywhere, nonzero_or_one, placed_like
from gradtx._core.sharding import replicated
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper


class OuterProductsState(NamedTuple):
    """The state of `scale_by_full_matrix_adagrad`: the sum of all $g g^H$, of shape (n, n) for a leaf of
    n entries."""

    outer_products: Any


class scale_by_full_matrix_adagrad(Elementwise):
    r"""Full-matrix AdaGrad divides the gradient by the matrix root of the sum of all outer products.

    $$ u_t = (\epsilon I + G_t^{1/2})^{-1} g_t, \qquad G_t = G_{t-1} + g_t g_t^H $$

    It is for small parameters: the state of a leaf of n entries holds n^2 numbers, and every step takes
    an eigendecomposition of this matrix. The update is 0 along every direction in which all gradients
    so far were 0 up to rounding. Unlike diagonal AdaGrad, this update is equivariant under rotations.

    Args:
        eps: $\epsilon \ge 0$, which is added outside the root.
        max_size: the largest number of entries that a leaf may have.

    The state is `OuterProductsState(outer_products)`, one matrix of shape (n, n) per leaf.

    Raises:
        ValueError: if a leaf has more entries than `max_size`, if `max_size` is less than 1, or if `eps`
            is negative.

    Source: Duchi, Hazan & Singer, 2011.
    """

    eps: Hyper = 1e-7
    max_size: int = 1024
    limits = {"eps": "[0, inf)"}
    degrees = {"outer_products": 2}
    keeps_zero = True

    def validate(self) -> None:
        if self.max_size < 1:
            raise ValueError(
                f"`scale_by_full_matrix_adagrad(max_size={self.max_size})` must be 1 or more."
            )

    def init_leaf(self, param: Any) -> OuterProductsState:
        if param.size > self.max_size:
            raise ValueError(
                f"`scale_by_full_matrix_adagrad`: the state of a parameter of shape {param.shape} would "
                f"hold {param.size}^2 numbers. Use `scale_by_adagrad` for it, or pass a larger "
                "`max_size`."
            )
        dtype = promote(param.dtype, jnp.float32)
        return OuterProductsState(jnp.zeros((param.size, param.size), dtype))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        if not update.size:
            return update, state
        given = update
        update, back = replicated(update)
        g = update.reshape(-1)
        total = state.outer_products + jnp.outer(g, g.conj())
        # Each product of finite entries is finite, but their sum may overflow. Then the sum stays as it
        # was before this step.
        overflows = jnp.isinf(total).any() & jnp.isfinite(g).all()
        total = jnp.where(overflows, state.outer_products, total)
        u = _over_root(total, g, jnp.asarray(self.eps, g.real.dtype))
        return placed_like(back(u.reshape(update.shape)), given), OuterProductsState(
            everywhere(total)
        )

    def tex(self, g: Tex, page: Page) -> Tex:
        g, eps = page.symbol(g), page.number(self.eps, r"\epsilon")
        page.notes["I"] = r"\text{: the identity matrix}"
        page.notes[r"\cdot^H"] = r"\text{: the conjugate transpose; an array is one column}"
        product = rf"{g.text}\, {g.text}^H"
        total = page.define("G", lambda s: Tex(rf"{s}_{{t-1}} + {product}"))
        inverse = rf"\left({eps.text}\, I + {page.from_zero(total).text}^{{1/2}}\right)^{{-1}}"
        return Tex(rf"{inverse}\, {g.text}", 1)


def _spectrum(matrix: jax.Array, eps: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The eigenvectors, the roots of the eigenvalues, and the factors $1 / (\\epsilon + root)$.

    Roots and factors are 0 for eigenvalues that are 0 up to rounding.
    """
    unit = nonzero_or_one(jnp.max(jnp.diagonal(matrix).real))
    values, vectors = jnp.linalg.eigh(matrix / unit)
    rounding = values.size * jnp.finfo(values.dtype).eps * jnp.max(values)
    nonzero = values > rounding
    roots = jnp.sqrt(jnp.where(nonzero, values, jnp.ones_like(values))) * jnp.sqrt(unit)
    zero = jnp.zeros_like(roots)
    return vectors, jnp.where(nonzero, roots, zero), jnp.where(nonzero, 1 / (eps + roots), zero)


@jax.custom_jvp
def _over_root(matrix: jax.Array, g: jax.Array, eps: jax.Array) -> jax.Array:
    vectors, _, inverse = _spectrum(matrix, eps)
    return _matmul(vectors, inverse * _matmul(vectors.conj().T, g))


@_over_root.defjvp
def _over_root_jvp(primals: Any, tangents: Any) -> Any:
    # The derivative of a matrix function by Daleckii and Krein. JAX's derivative of `eigh` divides by
    # the differences of eigenvalues, which are 0 among the directions that had no gradient.
    (matrix, g, eps), (d_matrix, d_g, d_eps) = primals, tangents
    vectors, roots, inverse = _spectrum(matrix, eps)
    back = vectors.conj().T
    y = _matmul(back, g)
    r, s = roots[:, None], roots[None, :]
    f, h = inverse[:, None], inverse[None, :]
    both, one = (r > 0) & (s > 0), (r > 0) ^ (s > 0)
    total = jnp.where(both | one, r + s, jnp.ones_like(r + s))
    slopes = jnp.where(both, -f * h / total, jnp.where(one, (f + h) / total**2, 0))
    change = _matmul(slopes * _matmul(back, _matmul(d_matrix, vectors)), y)
    change = change + inverse * _matmul(back, d_g) - inverse**2 * y * d_eps
    return _matmul(vectors, inverse * y), _matmul(vectors, change)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")

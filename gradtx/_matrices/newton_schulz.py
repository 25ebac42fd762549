r"""Newton-Schulz iteration: the orthogonal factor of a matrix, computed with matrix products alone.

`iteration.py` has the two forms in which the steps are computed, and `restarts.py` decides which one
takes fewer operations.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax.lax import PrecisionLike
from jax.typing import DTypeLike

from gradtx._core.authors import described
from gradtx._core.dtypes import promote
from gradtx._core.function_arguments import check_arguments
from gradtx._core.sizes import in_units, unit_of
from gradtx._matrices.groups import in_turn
from gradtx._matrices.iteration import divide, frobenius, iterate
from gradtx._matrices.polynomials import Polynomials, resolve_coefficients
from gradtx._matrices.precision import check_precision
from gradtx._matrices.restarts import plan


def newton_schulz(
    x: Annotated[jax.Array, "*batch m n"],
    coefficients: Polynomials = "polar_express",
    *,
    steps: int | None = None,
    form: Literal["auto", "standard", "gram"] = "auto",
    norm: Literal["frobenius", "schatten"] = "frobenius",
    dtype: DTypeLike | None = None,
    precision: PrecisionLike = None,
    restart: Sequence[int] | None = None,
    symmetric: bool | None = None,
    batching: Literal["auto", "map", "batched"] = "auto",
) -> Annotated[jax.Array, "*batch m n"]:
    r"""Move the singular values of a matrix to one, and keep the singular vectors.

    $$ U S V^H \mapsto U\, p(S / \|S\|)\, V^H $$

    Args:
        x: the matrices `[..., m, n]`, floating or complex, wide or tall. The leading axes are a batch.
            The entries below count rows along the shorter of the last two axes.
        coefficients: the polynomials: a triple `(a, b, c)`, a sequence of triples, or the name of a
            preset. "polar_express", "speedrun", "cans", "jordan" (which is also called "standard", as
            in Optax) and "classical" take any number of steps; "dion" and "cubic" are tables of 5
            steps, "modula" of 6 and "deepseek" of 10. Five steps of the default lift a singular value
            of 0.0005 to 0.5, while five steps of "jordan" or "dion" lift one of 0.001 to 0.5.
        steps: the number of steps. None means 5, or the length of the table.
        form: "standard", "gram", or "auto" for the one that takes fewer operations. Below 64 rows "auto"
            is the standard form, which rounds less.
        norm: the norm by which the matrix is divided: "frobenius", or "schatten" for the smaller
            $\|X X^H\|_F^{1/2}$, which uses the product of the first step. "schatten" lifts small
            singular values further, but has not been tested in training.
        dtype: the dtype of the matrices between products. None means the dtype of `x`, and float32 at
            least. The normalization comes before the cast, and sums within a product are float32 at
            least. In bfloat16 both forms have errors of 0.02 on Gaussian matrices, 0.2 on
            ill-conditioned ones, and 0.4 to 0.8 on matrices of low rank, where they lift null
            directions. On a GPU, which rounds once more to save time, the errors are up to half as
            large again. With exact float32 products the errors are 3e-5.
        precision: the precision of products, as in `jax.numpy.matmul`. With None, accelerators round
            the operands of float32 products to TF32 or bfloat16; "highest" keeps all digits.
        restart: the numbers of steps after which the Gram form restarts. None means as few restarts as
            rounding permits. For five steps these are `(3,)` in float32, `(2, 4)` below 192 rows, and
            `(1, 3)` where operands are rounded to bfloat16.
        symmetric: whether the lower left block of a Hermitian product is mirrored and not computed. None
            means yes on a CPU from 768 rows on, where it saves 4 to 11% of the time.
        batching: "map" takes one matrix after another, "batched" takes all in one product. "auto" is
            "map" on a CPU from 64 rows on, where it is as fast or up to 14% faster.

    Returns:
        An array of the shape and dtype of `x`. It does not depend on the scale of `x`. A matrix of zeros
        gives zeros, and a matrix that holds an infinity or a NaN gives NaN.

    Raises:
        TypeError: if `x` is neither floating nor complex, or if `dtype` is not of the same kind.
        ValueError: if `x` has fewer than two axes, if a name is unknown, if `steps` does not fit
            `coefficients`, or if `restart` is unstable in `dtype`.

    Source: Jordan et al., "Muon", 2024; for the Gram form Amsel et al., 2025, arXiv:2505.16932,
    and Dao-AILab, "Gram Newton-Schulz", 2025.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (64, 256))
    >>> values = jnp.linalg.svd(gradtx.newton_schulz(x), compute_uv=False)
    >>> bool((values > 0.85).all() and (values < 1.15).all())
    True
    """
    check_arguments(newton_schulz, locals())
    check_precision(precision, "newton_schulz(precision=...)")
    options: Any = {"steps": steps, "form": form, "norm": norm, "dtype": dtype}
    options |= {"precision": precision, "restart": restart, "symmetric": symmetric}
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError):
        raise TypeError(f"`newton_schulz(x)` needs an array, not {described(x)}.") from None
    return orthogonal(x, coefficients, batching=batching, **options)


def orthogonal(
    x: Annotated[jax.Array, "*batch m n"],
    coefficients: Polynomials,
    *,
    steps: int | None,
    form: str,
    norm: str,
    dtype: DTypeLike | None,
    precision: PrecisionLike,
    restart: Sequence[int] | None,
    symmetric: bool | None,
    batching: str = "auto",
) -> Annotated[jax.Array, "*batch m n"]:
    """`newton_schulz` without the checks that a transformation makes when it is constructed."""
    if x.ndim < 2:
        raise ValueError(
            f"`newton_schulz(x)`: the shape of x is {x.shape}, but it must be [..., m, n]."
        )
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(
            f"`newton_schulz(x)`: the dtype of x is {x.dtype}. Cast x to a floating or complex dtype."
        )
    wide = promote(x.dtype, jnp.float32)
    dtype = wide if dtype is None else jnp.dtype(dtype)
    kind = jnp.complexfloating if jnp.iscomplexobj(x) else jnp.floating
    if not jnp.issubdtype(dtype, kind):
        word = "complex" if jnp.iscomplexobj(x) else "floating"
        raise TypeError(f"`newton_schulz(dtype={dtype})` must be {word}, because x is {x.dtype}.")
    wide = promote(wide, dtype)

    m, n = sorted(x.shape[-2:])
    on_cpu, on_gpu = (jax.default_backend() == device for device in ("cpu", "gpu"))
    symmetric = on_cpu and m >= 768 if symmetric is None else symmetric
    coefficients = resolve_coefficients(coefficients, steps)
    eps = _product_eps(dtype, precision)
    segments = plan(m, n, coefficients, form, restart, eps=eps, symmetric=symmetric)
    # On a GPU, a sum after a product is a pass of its own over memory. With 16 bits the sum comes first,
    # which saves 14 to 38% of the time (measured on an H100). With 32 bits, of which a GPU multiplies
    # the first 11, the errors of ill-conditioned matrices would be twenty times as large.
    sum_first = on_gpu and jnp.finfo(dtype).bits == 16
    if x.size == 0:
        return x

    def orthogonalize(matrix: jax.Array) -> jax.Array:
        matrix = matrix.astype(wide)
        # The largest entry is divided out first, so that squares neither overflow nor underflow.
        largest = jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True)
        matrix = in_units(matrix, unit_of(largest))
        matrix = divide(matrix, frobenius(matrix))
        matrix = iterate(matrix, segments, norm, dtype, precision, symmetric, sum_first)
        return matrix.astype(x.dtype)

    tall = x.shape[-2] > x.shape[-1]
    as_wide = x.mT if tall else x
    # On XLA:CPU a product over a batch of one takes 1.3 to 1.8 times as long as one of 2-D arrays.
    if x.size == m * n:
        result = orthogonalize(as_wide.reshape(m, n))
    elif batching == "map" or (batching == "auto" and on_cpu and m >= 64):
        result = in_turn(orthogonalize, as_wide.reshape(-1, m, n))
    else:
        result = orthogonalize(as_wide.reshape(-1, m, n))
    return result.reshape(as_wide.shape).mT if tall else result.reshape(as_wide.shape)


def _product_eps(dtype: jnp.dtype, precision: Any) -> float:
    """Return the distance from one to the next number in the dtype to which operands are rounded."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore
    exact = precision in (jax.lax.Precision.HIGHEST, "highest", "float32")
    # Some accelerators round to TF32, which has three bits more than bfloat16. They are not told apart.
    if jnp.finfo(dtype).bits == 32 and jax.default_backend() != "cpu" and not exact:
        dtype = jnp.bfloat16
    return float(jnp.finfo(dtype).eps)

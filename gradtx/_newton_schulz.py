r"""The orthogonal factor of a matrix, from matrix products alone.

Each step applies an odd polynomial to the singular values, $X \leftarrow a X + Z X$ with
$Z = b R + c R^2$ and $R = X X^H$. There are two forms of running several of them:

- standard: $R$ is computed anew for every step.
- Gram: only $m \times m$ matrices move, $Q \leftarrow Q (Z + a I)$ from $Q = I$ and
  $R \leftarrow (Z + a I) R (Z + a I)$; at the end $X \leftarrow Q X$.

In exact arithmetic they agree. In rounded arithmetic $R$ drifts from $X X^H$ until it has negative
eigenvalues, which grow; a restart ends that with $X \leftarrow Q X$ and a fresh $R$. So a run is a
list of segments, each between two restarts, and the standard form is the run in which every
segment is one step.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._polynomials import Coefficients, resolve_coefficients
from gradtx._tree import promote

Segments = tuple[Coefficients, ...]


def newton_schulz(
    x: jax.Array,
    coefficients: str | Sequence[Any] = "polar_express",
    *,
    steps: int | None = None,
    form: Literal["auto", "standard", "gram"] = "auto",
    norm: Literal["frobenius", "schatten"] = "frobenius",
    dtype: Any = None,
    precision: Any = None,
    restart: Sequence[int] | None = None,
    symmetric: bool | None = None,
    batching: Literal["auto", "map", "batched"] = "auto",
) -> jax.Array:
    r"""Move the singular values of a matrix to one: $U S V^H \mapsto U p(S / \|S\|) V^H$.

    Args:
        x: `[..., m, n]`, floating or complex, wide or tall; leading axes are a batch.
        coefficients: a preset's name, a triple `(a, b, c)` or several, with `steps` as in
            `resolve_coefficients`. The default takes five steps, and lifts singular values half
            as large as five of the tuned quintics do.
        form: `"standard"`, `"gram"`, or whichever of the two needs fewer `flops`.
        norm: `"frobenius"`, or `"schatten"`: the tighter $\|X X^H\|_F^{1/2}$, from the first
            step's own product. It lifts small singular values further, noise included; what that
            does to training is untested.
        dtype: of the matrices between products; by default that of `x`, and float32 at least. The
            normalization comes before, and sums within a product are float32 at least.
        precision: as in `jax.numpy.matmul`. By default accelerators round the operands of float32
            products to TF32 or bfloat16; `"highest"` keeps them.
        restart: after how many steps the Gram form restarts. By default as rarely as rounding
            permits: `(3,)` of five in float32, `(1, 3)` where operands round to bfloat16.
        symmetric: leave out the lower left block of products that are symmetric. By default on a
            CPU from 512 rows on, where it saves 3 to 11% of the time.
        batching: one matrix after another (`"map"`) or products of whole batches (`"batched"`).
            By default the first on a CPU from 64 rows on, where it is as fast or up to 14%
            faster and needs the memory of one.

    Returns:
        An array like `x`. Its scale plays no part, zeros stay zeros, and a matrix that holds an
        infinity or a NaN becomes NaN.

    Raises:
        TypeError: if `x` is neither floating nor complex, or `dtype` is not of its kind.
        ValueError: for another choice or shape, or a `restart` that is unstable in `dtype`.

    Source: Jordan et al., "Muon", 2024; for the Gram form Amsel et al., 2025, arXiv:2505.16932,
    and Dao-AILab, "Gram Newton-Schulz", 2025.
    """
    x = jnp.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"newton_schulz(x): its shape is {x.shape}; pass [..., m, n].")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(f"newton_schulz(x): its dtype is {x.dtype}; pass floats or complex numbers.")
    _check_choice("form", form, ("auto", "standard", "gram"))
    _check_choice("norm", norm, ("frobenius", "schatten"))
    _check_choice("batching", batching, ("auto", "map", "batched"))
    wide = promote(x.dtype, jnp.float32)
    dtype = wide if dtype is None else jnp.dtype(dtype)
    kind = jnp.complexfloating if jnp.iscomplexobj(x) else jnp.floating
    if not jnp.issubdtype(dtype, kind):
        raise TypeError(f"newton_schulz(dtype={dtype.name}): x is {x.dtype}; pass a {kind.__name__}.")
    wide = promote(wide, dtype)

    m, n = sorted(x.shape[-2:])
    on_cpu = jax.default_backend() == "cpu"
    symmetric = on_cpu and m >= 512 if symmetric is None else symmetric
    segments = plan(
        m,
        n,
        resolve_coefficients(coefficients, steps),
        form=form,
        restart=restart,
        eps=_product_eps(dtype, precision),
        symmetric=symmetric,
    )
    if x.size == 0:
        return x

    def orthogonalize(matrix: jax.Array) -> jax.Array:
        matrix = _unit_norm(matrix.astype(wide))
        options = {"norm": norm, "dtype": dtype, "precision": precision, "symmetric": symmetric}
        return _run(matrix, segments, **options).astype(x.dtype)

    wide_x = x if x.shape[-2] <= x.shape[-1] else x.mT
    batch = wide_x.reshape(-1, m, n)
    # A product over a batch of one takes 1.3 to 1.8 times as long on XLA:CPU as the same in 2-D.
    if len(batch) == 1:
        result = orthogonalize(batch[0])
    elif batching == "map" or (batching == "auto" and on_cpu and m >= 64):
        result = jax.lax.map(orthogonalize, batch)
    else:
        result = orthogonalize(batch)
    result = result.reshape(wide_x.shape)
    return result if wide_x.shape == x.shape else result.mT


def plan(
    m: int,
    n: int,
    coefficients: Coefficients,
    *,
    form: str = "auto",
    restart: Sequence[int] | None = None,
    eps: float = 2.0**-23,
    symmetric: bool = False,
) -> Segments:
    r"""Cut the steps into segments: those of the form asked for, or of the one with fewer `flops`.

    Within a segment a rounding error of $R$ where $X$ is null grows by $\prod a^2$. The measured
    limit, over spectra from flat to lognormal, is `2.4 / eps`: beyond it singular values overshoot
    by a factor of 2, or of $10^4$ and more; below it, by at most 1.1. In float32 the default stays
    below 3e4 besides, which keeps the error of the standard form.
    """
    limit = 2.4 / eps
    if restart is None:
        cuts, growth = [], 1.0
        for step, (a, _, _) in enumerate(coefficients):
            growth *= a**2
            if step and growth > min(limit, 3e4):
                cuts.append(step)
                growth = a**2
    else:
        cuts = list(restart)
        if cuts != sorted(set(cuts) & set(range(1, len(coefficients)))):
            raise ValueError(
                f"newton_schulz(restart={restart}): pass increasing numbers of steps from 1 to "
                f"{len(coefficients) - 1}."
            )
    gram = tuple(coefficients[i:j] for i, j in itertools.pairwise((0, *cuts, len(coefficients))))
    growth = max((math.prod(a**2 for a, _, _ in part) for part in gram if len(part) > 1), default=0)
    if growth > limit and form != "standard":
        raise ValueError(
            f"newton_schulz(restart={restart}): between restarts rounding errors grow by "
            f"{growth:.0f}, and products with eps={eps:.1g} are stable to {limit:.0f}; restart "
            f"more often, leave restart out, or pass form='standard'."
        )
    standard = tuple((triple,) for triple in coefficients)
    choices = {"standard": (standard,), "gram": (gram,), "auto": (standard, gram)}[form]
    return min(choices, key=lambda segments: flops(m, n, segments, symmetric))


def flops(m: int, n: int, segments: Segments, symmetric: bool = False) -> int:
    r"""Operations in the products of a run on an m x n matrix, $m \le n$, two to a multiply-add.

    With dense products a segment of k quintic steps takes $4 m^2 n + 2 m^3$ for k = 1 and
    $4 m^2 n + (8k - 6) m^3$ beyond.
    """
    # Of a symmetric product, the upper rows and the lower right block are computed.
    half = m // 2 if symmetric else m
    cells = half * m + (m - half) ** 2
    squares = sum((c != 0) + (k > 0) + 2 * (k < len(s) - 1) for s in segments for k, (*_, c) in enumerate(s))
    return 2 * len(segments) * (cells * n + m * m * n) + 2 * squares * cells * m


def _product_eps(dtype: jnp.dtype, precision: Any) -> float:
    """The spacing of numbers near one among the operands of a product."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision
    exact = precision in (jax.lax.Precision.HIGHEST, "highest", "float32")
    if promote(dtype, jnp.float32) == jnp.float32 ...

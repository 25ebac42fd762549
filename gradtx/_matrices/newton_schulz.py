r"""The orthogonal factor of a matrix, from matrix products alone.

Each step applies an odd polynomial to the singular values, $X \leftarrow a X + Z X$ with
$Z = b R + c R^2$ and $R = X X^H$. There are two forms of running several of them:

- standard: $R$ is computed anew for every step.
- Gram: only $m \times m$ matrices move, $Q \leftarrow Q (Z + a I)$ from $Q = I$ and
  $R \leftarrow (Z + a I) R (Z + a I)$; at the end $X \leftarrow Q X$.

In exact arithmetic they agree. Rounded, the Gram form needs restarts, $X \leftarrow Q X$ and a fresh
$R$; `restarts.py` decides where. The standard form is the run of segments of one step.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._core.dtypes import promote
from gradtx._core.numerics import abs_square, sqrt
from gradtx._matrices.groups import in_turn
from gradtx._matrices.polynomials import resolve_coefficients
from gradtx._matrices.restarts import Segments, plan

_CHOICES = {
    "form": ("auto", "standard", "gram"),
    "norm": ("frobenius", "schatten"),
    "batching": ("auto", "map", "batched"),
}


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
        coefficients: the polynomials: a triple `(a, b, c)`, several, or the name of a preset. Those
            for any number of steps are "polar_express", "speedrun", "cans", "jordan" (Optax's
            "standard") and "classical"; tables are "dion" and "cubic" of 5 steps, "modula" of 6 and
            "deepseek" of 10. Five steps of the default lift singular values half as large as five of
            the tuned quintics do.
        steps: how many; 5 if not given, or as many as a table has.
        form: `"standard"`, `"gram"`, or whichever of the two takes fewer operations (below 64 rows
            the first, which rounds less).
        norm: `"frobenius"`, or `"schatten"`: the tighter $\|X X^H\|_F^{1/2}$, from the first
            step's own product. It lifts small singular values further; untested in training.
        dtype: of the matrices between products; by default that of `x`, and float32 at least. The
            normalization comes before, and sums within a product are float32 at least. In
            bfloat16 either form errs by .02 on Gaussian, .2 on ill-conditioned and .4 to .8 on
            low-rank matrices, whose null directions it lifts; in exact float32 by 3e-5.
        precision: as in `jax.numpy.matmul`. By default accelerators round the operands of float32
            products to TF32 or bfloat16; `"highest"` keeps them.
        restart: after how many steps the Gram form restarts. By default as rarely as rounding
            permits: `(3,)` of five in float32, `(2, 4)` below 192 rows, `(1, 3)` where operands
            round to bfloat16.
        symmetric: mirror the lower left block of products that are symmetric; by default on a CPU
            from 768 rows on, where that saves 4 to 11% of the time.
        batching: `"map"` takes one matrix after another, `"batched"` all in one product. By
            default the first on a CPU from 64 rows on: as fast, or up to 14% faster.

    Returns:
        An array like `x`. Its scale plays no part, zeros stay zeros, and a matrix that holds an
        infinity or a NaN becomes NaN.

    Raises:
        TypeError: if `x` is neither floating nor complex, or `dtype` is not of its kind.
        ValueError: for another choice or shape, or a `restart` that is unstable in `dtype`.

    Source: Jordan et al., "Muon", 2024; for the Gram form Amsel et al., 2025, arXiv:2505.16932,
    and Dao-AILab, "Gram Newton-Schulz", 2025.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (64, 256))
    >>> values = jnp.linalg.svd(gradtx.newton_schulz(x), compute_uv=False)
    >>> bool((values > 0.85).all() and (values < 1.15).all())
    True
    """
    x = jnp.asarray(x)
    if x.ndim < 2:
        raise ValueError(f"newton_schulz(x): its shape is {x.shape}; pass [..., m, n].")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(f"newton_schulz(x): its dtype is {x.dtype}; cast it to a floating one.")
    check_choices("newton_schulz", form=form, norm=norm, batching=batching)
    wide = promote(x.dtype, jnp.float32)
    dtype = wide if dtype is None else jnp.dtype(dtype)
    kind = jnp.complexfloating if jnp.iscomplexobj(x) else jnp.floating
    if not jnp.issubdtype(dtype, kind):
        raise TypeError(f"newton_schulz(dtype={dtype}): pass a {kind.__name__}, as x is.")
    wide = promote(wide, dtype)

    m, n = sorted(x.shape[-2:])
    on_cpu = jax.default_backend() == "cpu"
    symmetric = on_cpu and m >= 768 if symmetric is None else symmetric
    coefficients = resolve_coefficients(coefficients, steps)
    eps = _product_eps(dtype, precision)
    segments = plan(m, n, coefficients, form, restart, eps=eps, symmetric=symmetric)
    if x.size == 0:
        return x

    def orthogonalize(matrix: jax.Array) -> jax.Array:
        matrix = matrix.astype(wide)
        # The largest entry goes first, so that no square overflows or vanishes.
        matrix = _divide(matrix, jnp.max(jnp.abs(matrix), axis=(-2, -1), keepdims=True))
        matrix = _divide(matrix, _frobenius(matrix))
        return _run(matrix, segments, norm, dtype, precision, symmetric).astype(x.dtype)

    tall = x.shape[-2] > x.shape[-1]
    lying = x.mT if tall else x
    # A product over a batch of one takes 1.3 to 1.8 times as long on XLA:CPU as the same in 2-D.
    if x.size == m * n:
        result = orthogonalize(lying.reshape(m, n))
    elif batching == "map" or (batching == "auto" and on_cpu and m >= 64):
        result = in_turn(orthogonalize, lying.reshape(-1, m, n))
    else:
        result = orthogonalize(lying.reshape(-1, m, n))
    return result.reshape(lying.shape).mT if tall else result.reshape(lying.shape)


def check_choices(owner: str, **choices: str) -> None:
    """Raise `ValueError` for a word that `newton_schulz` does not know; `owner` is named."""
    for name, value in choices.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{owner}({name}={value!r}): pass one of {_CHOICES[name]}.")


def _product_eps(dtype: jnp.dtype, precision: Any) -> float:
    """Return the spacing of numbers near one among the operands of a product."""
    if precision is None:
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore
    exact = precision in (jax.lax.Precision.HIGHEST, "highest", "float32")
    # TF32 has three bits more than bfloat16, but accelerators are not told apart here.
    if jnp.finfo(dtype).bits == 32 and jax.default_backend() != "cpu" and not exact:
        dtype = jnp.bfloat16
    return float(jnp.finfo(dtype).eps)


def _frobenius(x: jax.Array) -> jax.Array:
    return sqrt(jnp.sum(abs_square(x), axis=(-2, -1), keepdims=True))


def _divide(x: jax.Array, size: jax.Array) -> jax.Array:
    # Only zero is replaced: dividing by an infinity or a NaN makes the NaN that is to show.
    return x / jnp.where(size == 0, 1, size).astype(x.dtype)


def _run(
    x: jax.Array, segments: Segments, norm: str, dtype: Any, precision: Any, symmetric: bool
) -> jax.Array:
    """Apply the segments to `[..., m, n]` of unit norm: sums in its dtype, factors in `dtype`."""
    wide = x.dtype
    dot = functools.partial(jnp.matmul, precision=precision, preferred_element_type=wide)
    # Not `dot(x, x.mT)`: XLA:CPU takes that for a transposition, and bfloat16 then at half the speed.
    inner = functools.partial(
        jnp.einsum, "...ik,...jk->...ij", precision=precision, preferred_element_type=wide
    )

    half = x.shape[-2] // 2

    def hermitian(p: jax.Array, q: jax.Array) -> jax.Array:
        return _mirrored(dot, p, q, q[..., half:]) if symmetric else dot(p, q)

    def gram(x: jax.Array) -> jax.Array:
        y = x.conj()
        return _mirrored(inner, x, y, y[..., half:, :]) if symmetric else inner(x, y)

    eye = jnp.eye(x.shape[-2], dtype=wide).reshape(*(1,) * (x.ndim - 2), *2 * x.shape[-2:-1])

    # Q and R must advance by the same Z. Where one kept digits that the other had lost, the Gram
    # form would be the less stable for it (measured), so whatever a product reads is rounded first.
    def store(value: jax.Array) -> jax.Array:
        return value.astype(dtype)

    def plus(product: jax.Array, a: float, value: jax.Array) -> jax.Array:
        return store(product + a * value.astype(wide))

    x = store(x)
    for number, segment in enumerate(segments):
        r, q = gram(x), None
        if number == 0 and norm == "schatten":
            size = _frobenius(r)
            r, x = _divide(r, size), store(_divide(x.astype(wide), sqrt(size)))
        r = store(r)
        for step, (a, b, c) in enumerate(segment):
            z = plus(c * hermitian(r, r), b, r) if c else store(b * r.astype(wide))
            if len(segment) == 1:
                x = plus(dot(z, x), a, x)
            else:
                q = plus(z.astype(wide), a, eye) if q is None else plus(hermitian(q, z), a, q)
            if step < len(segment) - 1:
                zr = plus(hermitian(z, r), a, r)
                r = plus(hermitian(zr, z), a, zr)
        x = x if q is None else store(dot(q, x))
    return x


def _mirrored(product: Any, p: jax.Array, q: jax.Array, right: jax.Array) -> jax.Array:
    """`product(p, q)`, which is Hermitian: its lower left block is mirrored, not computed.

    `right` is the part of q that makes the right half of the columns.
    """
    half = p.shape[-2] // 2
    upper = product(p[..., :half, :], q)
    lower = [upper[..., :, half:].mT.conj(), product(p[..., half:, :], right)]
    return jnp.concatenate([upper, jnp.concatenate(lower, axis=-1)], axis=-2)

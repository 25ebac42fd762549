r"""The orthogonal factor of a matrix from matrix products alone.

Each step applies an odd polynomial to the singular values, $X \leftarrow a X + (b R + c R^2) X$
with $R = X X^H$, and there are two forms of running several of them:

- standard: $R$ is computed anew for every step.
- Gram: only the $m \times m$ matrices move. With $Z = b R + c R^2$ and $Q = I$ at first,
  $Q \leftarrow Q (Z + a I)$ and $R \leftarrow (Z + a I) R (Z + a I)$; at the end $X \leftarrow Q X$.

The two agree in exact arithmetic. In rounded arithmetic $R$ drifts from $X X^H$ until it has
negative eigenvalues, which grow; a restart ends that with $X \leftarrow Q X$ and a fresh $R$. So a
run is a list of segments, each between two restarts, and the standard form is the run whose
segments have one step each.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gradtx._polynomials import Coefficients, resolve_coefficients

Segments = tuple[Coefficients, ...]

# Before a restart, rounding errors where X is null have grown by the product of a^2. In products of
# float32 this may reach 3e4 and keep the error of the standard form (three steps of Polar Express);
# where operands are rounded to bfloat16 or TF32 it may not. With 18,000 a lognormal spectrum
# diverges to 1e4 and beyond, with 900 singular values overshoot by 2; at 262 they stay within 1.1.
_GROWTH, _GROWTH_ROUNDED = 3e4, 300.0


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
    r"""Move the singular values of a matrix towards one: $U S V^H \mapsto U p(S / \|S\|) V^H$.

    Args:
        x: `[..., m, n]`, floating or complex, wide or tall; leading axes are a batch.
        coefficients: a preset's name, a triple `(a, b, c)` or a sequence of them; `steps` as in
            `resolve_coefficients`. The default reaches singular values half as large as the
            tuned quintics do for the same cost.
        form: `"standard"`, `"gram"`, or whichever of the two needs fewer `flops`.
        norm: `"frobenius"`, or `"schatten"`: the tighter $\|X\|_{S_4} = \|X X^H\|_F^{1/2}$, from the
            first step's own $X X^H$. It raises small singular values more, noise included; its
            effect on training is untested.
        dtype: in which the matrices are stored and multiplied: by default that of `x`, float32 at
            least. Sums are float32 at least, and so is the normalization.
        precision: of the products, as in `jax.numpy.matmul`. By default accelerators round
            float32 operands, to TF32 or bfloat16; `"highest"` does not.
        restart: the Gram form restarts after these numbers of steps; by default as rarely as
            rounding permits: `(3,)` for five steps in float32, `(1, 3)` where products round.
        symmetric: skip the lower left quarter of products that are symmetric; by default on a CPU
            from 512 rows on, where that is faster.
        batching: work through a batch one by one (`"map"`) or in batched products; by default one
            by one on a CPU from 64 rows on.

    Returns:
        An array of the shape and dtype of `x`. Zeros stay zeros, the scale of `x` does not
        matter, and a matrix that holds an infinity or a NaN becomes NaN.

    Raises:
        TypeError: if `x` is not floating or complex, or `dtype` is not of its kind.
        ValueError: for an unknown choice, or a `restart` that is unstable in `dtype`.

    Largest error relative to the exact polynomial, in the Frobenius norm over spectra from flat to
    1e6 wide: 2e-5 in float32, .4 in bfloat16 (.02 on Gaussian matrices) for both forms.

    Source: Jordan et al., "Muon", 2024; Gram form: Amsel et al., 2025, arXiv:2505.16932, and
    Dao-AILab, "Gram Newton-Schulz", 2025.
    """
    x = jnp.asarray(x)
    for name, value, choices in (
        ("form", form, ("auto", "standard", "gram")),
        ("norm", norm, ("frobenius", "schatten")),
        ("batching", batching, ("auto", "map", "batched")),
    ):
        if value not in choices:
            raise ValueError(f"newton_schulz({name}={value!r}): pass one of {', '.join(choices)}.")
    if x.ndim < 2:
        raise ValueError(f"newton_schulz: x has shape {x.shape}, but needs two axes or more.")
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise TypeError(f"newton_schulz: x is {x.dtype}; cast it to a floating dtype first.")
    wide = jnp.result_type(x.dtype, *(() if _bits(x.dtype) >= 32 else (jnp.float32,)))
    ...

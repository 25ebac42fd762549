"""Orthogonalization of updates, and the scales of orthogonalized updates."""

import math
from dataclasses import KW_ONLY
from typing import Any, Literal, TypeAlias

from jax.typing import DTypeLike

from gradtx._core.latex import Page, Tex, times
from gradtx._core.shapes import Matrices
from gradtx._core.unit import Elementwise
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.laid_out import laid_out
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.newton_schulz import orthogonal
from gradtx._matrices.polynomials import Polynomials, resolve_coefficients
from gradtx._matrices.precision import check_precision
from gradtx._transforms.scale import scale


class orthogonalize_newton_schulz(Matrixwise):
    r"""Every matrix is replaced by an approximation of its orthogonal factor.

    $$ G = U S V^T \mapsto U V^T $$

    This factor is the direction of steepest descent under the spectral norm. The Newton-Schulz
    iteration (`newton_schulz`) computes it, in one call for all matrices of one shape. A matrix of zeros
    gives zeros, and a matrix that holds an infinity or a NaN gives NaN.

    Args:
        coefficients: the polynomials: a preset's name, a triple, or a sequence of triples.
        steps: the number of steps. None means 5, or the length of the table.
        form: how the steps are computed: "standard", "gram", or "auto" for the cheaper of the two.
        norm: the norm by which a matrix is divided: "frobenius", or "schatten", which is smaller.
        dtype: the dtype of the matrices between products. None means the dtype of the update.
        precision: the precision of products, as in `jax.numpy.matmul`.
        restart: the numbers of steps after which "gram" restarts. None means as few as are stable.
        symmetric: whether half of a Hermitian product is mirrored. None means where that is faster.
        axes: the rule that says which axes of a leaf are its matrix. Stacked layers, experts and fused
            projections are orthogonalized one by one.
        exchange_dtype: the dtype in which sharded matrices travel between devices, there and back.
            "bfloat16" halves the bytes, and rounds every entry twice to 8 bits. None means the dtype of
            the matrices.

    Raises:
        ValueError: if a name is unknown, if `steps` does not fit `coefficients`, if `restart` is
            unstable, if `exchange_dtype` has a shorter range than float32, or if a leaf has fewer than
            two axes.
        TypeError: if `axes` is not a rule for matrices.

    Sources: Jordan et al., "Muon", 2024; Bernstein & Newhouse, 2024, arXiv:2409.20325.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.orthogonalize_newton_schulz()
    >>> jnp.round(tx.update(jnp.array([[0.0, 5.0], [-7.0, 0.0]]), ())[0])
    Array([[ 0.,  1.],
           [-1.,  0.]], dtype=float32)
    """

    coefficients: Polynomials = "polar_express"
    steps: int | None = None
    form: Literal["auto", "standard", "gram"] = "auto"
    norm: Literal["frobenius", "schatten"] = "frobenius"
    dtype: DTypeLike | None = None
    precision: str | None = None
    restart: tuple[int, ...] | None = None
    symmetric: bool | None = None
    _: KW_ONLY
    exchange_dtype: DTypeLike | None = None
    linear = True  # it takes gradients of any size
    keeps_zero = True
    grouped = True
    transposes = True
    few_long_products = True

    def validate(self) -> None:
        super().validate()
        resolve_coefficients(self.coefficients, self.steps)
        check_precision(self.precision, "orthogonalize_newton_schulz(precision=...)")

    def resolved(self) -> dict[str, Any]:
        """The fields that hold None, with the values that act instead, for `summarize`."""
        return {"steps": len(resolve_coefficients(self.coefficients, self.steps))}

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        elsewhere = "axes", "exchange_dtype"
        options = {name: getattr(self, name) for name in self._static if name not in elsewhere}
        return orthogonal(x, **options), state

    def tex(self, g: Tex, page: Page) -> Tex:
        steps = self.resolved()["steps"]
        words = rf"{steps} steps of Newton-Schulz, which bring all singular values close to 1"
        return page.function("NS", rf"\text{{: {words}}}", g)


def _match_rms(inputs: int, outputs: int) -> float:
    return 0.2 * math.sqrt(max(inputs, outputs))


def _original(inputs: int, outputs: int) -> float:
    return math.sqrt(max(1.0, outputs / inputs))


def _spectral(inputs: int, outputs: int) -> float:
    return math.sqrt(outputs / inputs)


def _per_input(inputs: int, outputs: int) -> float:
    return 1 / inputs


def _symmetric(inputs: int, outputs: int) -> float:
    return 2 / (inputs + outputs)


ShapeFactor: TypeAlias = Literal["match_rms", "original", "spectral", "per_input", "symmetric"]
# The factors of `scale_by_shape` as functions of the numbers of inputs and outputs.
SHAPE_FACTORS = {
    "match_rms": _match_rms,
    "original": _original,
    "spectral": _spectral,
    "per_input": _per_input,
    "symmetric": _symmetric,
}
_IN, _OUT = r"d_{\mathrm{in}}", r"d_{\mathrm{out}}"
_SCALES_IN_LATEX = {
    "match_rms": rf"0.2\, \sqrt{{\max\left({_IN}, {_OUT}\right)}}",
    "original": rf"\sqrt{{\max\left(1, \frac{{{_OUT}}}{{{_IN}}}\right)}}",
    "spectral": rf"\sqrt{{\frac{{{_OUT}}}{{{_IN}}}}}",
    "per_input": rf"\frac{{1}}{{{_IN}}}",
    "symmetric": rf"\frac{{2}}{{{_IN} + {_OUT}}}",
}


class scale_by_shape(Elementwise):
    r"""Every matrix is multiplied by a factor that depends on its shape.

    $$ u = s\, g $$

    Args:
        mode: the name of the factor $s$, see below.
        axes: the rule that says which axes of a leaf are inputs and outputs.

    - "match_rms": $s = 0.2 \sqrt{\max(in, out)}$. An orthogonal update then has the root mean square
      0.2, as the updates of AdamW have, so that one learning rate and one weight decay fit all
      parameters of a model (Liu et al., 2025, arXiv:2502.16982, eq. 4).
    - "original": $s = \sqrt{\max(1, out / in)}$ (Jordan et al., 2024).
    - "spectral": $s = \sqrt{out / in}$. An orthogonal update then has the RMS-to-RMS operator norm 1
      (Bernstein & Newhouse, 2024).
    - "per_input": $s = 1 / in$, for updates that are signs (Pethick et al., 2025, arXiv:2502.07529).
    - "symmetric": $s = 2 / (in + out)$, for updates that are signs in an eigenbasis (Frans et al., 2025,
      arXiv:2506.07254, section 4.2).

    A leaf with fewer than two axes counts as a matrix with one input.

    Raises:
        ValueError: if `mode` is unknown.
    """

    mode: ShapeFactor = "match_rms"
    axes: MatrixRule = hidden_matrices()
    linear = True
    keeps_zero = True

    def validate(self) -> None:
        if self.mode not in SHAPE_FACTORS:
            raise ValueError(
                f"`scale_by_shape(mode={self.mode!r})` must be one of {sorted(SHAPE_FACTORS)}."
            )

    def at_leaf(self, path: str, leaf: Any) -> Elementwise:
        if len(leaf.shape) < 2:
            whole = self.axes.whole(path, leaf) if isinstance(self.axes, laid_out) else leaf
            return scale(self._factor(1, math.prod(whole.shape)))
        axes = self.axes.axes(path, leaf)
        sizes = axes.sizes(leaf.shape)
        factors = [self._factor(inputs, outputs) for inputs, outputs in sizes]
        if len({*factors}) == 1:
            return scale(factors[0])
        return scale(axes.along_outputs(factors, leaf.shape))

    def _factor(self, inputs: int, outputs: int) -> float:
        return SHAPE_FACTORS[self.mode](inputs, outputs) if inputs and outputs else 1.0

    def tex(self, g: Tex, page: Page) -> Tex:
        for name, words in (("in", "inputs"), ("out", "outputs")):
            if rf"d_{{\mathrm{{{name}}}}}" in _SCALES_IN_LATEX[self.mode]:
                note = rf"\text{{: the number of {words} of a matrix}}"
                page.notes[rf"d_{{\mathrm{{{name}}}}}"] = note
        factor = Tex(_SCALES_IN_LATEX[self.mode])
        return times(page.define("s", lambda _: factor, index=""), g)

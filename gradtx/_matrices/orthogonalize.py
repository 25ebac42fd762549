"""Orthogonalization of updates, and the sizes that orthogonal updates are brought to."""

import math
from typing import Any

import jax

from gradtx._core.latex import Page, Tex, call, escape, times
from gradtx._core.unit import Elementwise
from gradtx._matrices.axes import hidden_matrices
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.newton_schulz import check_choices, newton_schulz
from gradtx._matrices.polynomials import resolve_coefficients
from gradtx._transforms.scale import scale


class orthogonalize_newton_schulz(Matrixwise):
    r"""Every matrix is replaced by (nearly) its orthogonal factor, $G = U S V^T \mapsto U V^T$.

    That is the steepest descent direction under the spectral norm. Singular values are moved by odd
    polynomials. Matrices of one shape are worked on together.

    Args:
        coefficients, steps: the polynomials: a preset's name, or triples.
        form, norm, dtype, precision, restart, symmetric: as in `newton_schulz`.
        axes: which axes of a leaf are the matrix, a rule with a method `axes(path, leaf)`; stacked
            layers, experts and blocks are orthogonalized one by one.

    Zeros give zeros; a matrix that holds an infinity or a NaN gives NaN. Raises `ValueError` for a
    leaf with fewer than two axes. Source: Jordan et al., "Muon", 2024; Bernstein & Newhouse, 2024,
    arXiv:2409.20325.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.orthogonalize_newton_schulz()
    >>> jnp.round(tx.update(jnp.array([[0.0, 5.0], [-7.0, 0.0]]), ())[0])
    Array([[ 0.,  1.],
           [-1.,  0.]], dtype=float32)
    """

    coefficients: Any = "polar_express"
    steps: int | None = None
    form: str = "auto"
    norm: str = "frobenius"
    dtype: str | None = None
    precision: str | None = None
    restart: tuple[int, ...] | None = None
    symmetric: bool | None = None
    linear = True  # it takes gradients of any size
    grouped = True
    transposes = True

    def validate(self) -> None:
        super().validate()
        resolve_coefficients(self.coefficients, self.steps)
        check_choices("orthogonalize_newton_schulz", form=self.form, norm=self.norm)

    def update_matrix(self, x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        options = {name: getattr(self, name) for name in self._static if name != "axes"}
        return newton_schulz(x, **options), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return call("NS", g)


def _match_rms(inputs: int, outputs: int) -> float:
    return 0.2 * math.sqrt(max(inputs, outputs))


def _original(inputs: int, outputs: int) -> float:
    return math.sqrt(max(1.0, outputs / inputs))


def _spectral(inputs: int, outputs: int) -> float:
    return math.sqrt(outputs / inputs)


def _per_input(inputs: int, outputs: int) -> float:
    return 1 / inputs


_SCALES = {
    "match_rms": _match_rms,
    "original": _original,
    "spectral": _spectral,
    "per_input": _per_input,
}


class scale_by_shape(Elementwise):
    r"""Orthogonal updates brought to a size: $u = s\, g$ with $s$ from the matrix' own shape.

    Args:
        mode: which $s$.
        axes: the rule that says which axes are inputs and outputs; by default `hidden_matrices()`.

    - "match_rms": $0.2 \sqrt{\max(in, out)}$, entries of root mean square 0.2 as AdamW's, so that its
      learning rate and decay carry over (Liu et al., 2025, arXiv:2502.16982, eq. 4). The default,
      since then one rate serves all parameters of a model.
    - "original": $\sqrt{\max(1, out / in)}$ (Jordan et al., 2024).
    - "spectral": $\sqrt{out / in}$, spectral norm per fan (Bernstein & Newhouse, 2024).
    - "per_input": $1 / in$, for sign steps (Pethick et al., 2025, arXiv:2502.07529).

    A leaf with fewer than two axes counts as one input.

    Raises `ValueError` for an unknown mode.
    """

    mode: str = "match_rms"
    axes: Any = hidden_matrices()
    linear = True

    def validate(self) -> None:
        if self.mode not in _SCALES:
            raise ValueError(
                f"`scale_by_shape(mode={self.mode!r})` must be one of {sorted(_SCALES)}."
            )

    def at_leaf(self, path: str, leaf: Any) -> Elementwise:
        vector = len(leaf.shape) < 2
        inputs, outputs = (1, leaf.size) if vector else self.axes.axes(path, leaf).size(leaf.shape)
        return scale(_SCALES[self.mode](inputs, outputs) if inputs and outputs else 1.0)

    def tex(self, g: Tex, page: Page) -> Tex:
        return times(Tex(rf"s_{{\mathrm{{{escape(self.mode)}}}}}"), g)

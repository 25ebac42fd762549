"""Orthogonalization of updates, leaf by leaf in meaning and group by group in execution."""

import functools
import math
from typing import Any

import jax

from gradtx._core.dtypes import compute_dtype
from gradtx._core.elementwise import Elementwise
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten, paths
from gradtx._matrices.axes import MatrixAxes, hidden_matrices
from gradtx._matrices.groups import map_groups, replicated
from gradtx._matrices.newton_schulz import newton_schulz
from gradtx._matrices.polynomials import resolve_coefficients
from gradtx._transforms.scale import scale


class orthogonalize_newton_schulz(Transform):
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
    axes: Any = hidden_matrices()

    def validate(self) -> None:
        resolve_coefficients(self.coefficients, self.steps)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        leaves, structure = flatten(updates)
        todo = [(i, a) for i, a in enumerate(matrix_axes(self.axes, updates)) if a is not None]
        gathered = [replicated(leaves[i].astype(compute_dtype(leaves[i]))) for i, _ in todo]
        stacks = [axes.split(x) for (_, axes), (x, _) in zip(todo, gathered, strict=True)]
        f = functools.partial(_newton_schulz, options=self._with(axes=None))
        for (i, axes), (x, back), new in zip(todo, gathered, map_groups(f, stacks), strict=True):
            leaves[i] = back(axes.join(new, x.shape))
        return structure.unflatten(leaves), state


@functools.partial(jax.jit, static_argnames="options")
def _newton_schulz(x: jax.Array, options: orthogonalize_newton_schulz) -> jax.Array:
    fields = {name: getattr(options, name) for name in options._static if name != "axes"}
    return newton_schulz(x, **fields)


def matrix_axes(rule: Any, tree: PyTree) -> list[MatrixAxes | None]:
    """The matrix of every leaf of `flatten(tree)`, by `rule`; None for leaves that are None."""
    leaves = flatten(tree)[0]
    return [
        None if x is None else rule.axes(p, x) for p, x in zip(paths(tree), leaves, strict=True)
    ]


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

    Raises `ValueError` for another mode.
    """

    mode: str = "match_rms"
    axes: Any = hidden_matrices()

    def validate(self) -> None:
        if self.mode not in _SCALES:
            raise ValueError(
                f"`scale_by_shape(mode={self.mode!r})` must be one of {sorted(_SCALES)}."
            )

    def marks(self, params: PyTree) -> list[Any]:
        leaves = zip(paths(params), flatten(params)[0], strict=True)
        return [1.0 if x is None else self._factor(path, x) for path, x in leaves]

    def _factor(self, path: str, x: Any) -> float:
        vector = len(x.shape) < 2
        inputs, outputs = (1, x.size) if vector else self.axes.axes(path, x).size(x.shape)
        return _SCALES[self.mode](inputs, outputs) if inputs and outputs else 1.0

    def marked(self, mark: Any) -> Elementwise:
        return scale(mark)

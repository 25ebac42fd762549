"""Norms of matrices and of their rows, which the variants of Muon change.

A row holds all entries of one output, which are the incoming weights of one neuron. `axes` says which
axes are the matrix, and stacked layers are separate matrices. The variants are these chains:

    MuonEq    momentum, equilibrate_rows, orthogonalize
    NorMuon   momentum, orthogonalize, keep_norm(scale_by_neuron_rms)
    AdaMuon   momentum, sign, orthogonalize, identity / (root(second_moment) + eps), scale_to_rms
"""

from dataclasses import KW_ONLY
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, fraction, plus, sqrt as sqrt_tex, square, times
from gradtx._core.numerics import abs_square, average_of_squares, sqrt, unit_of
from gradtx._core.shapes import Matrices
from gradtx._core.transform import Transform
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._matrices.norms import divided, matrix_norm


def _rescaled(x: Matrices, target: Any, axis: tuple[int, ...] = (-2, -1)) -> Matrices:
    """`x` scaled to the norm `target` over `axis`; where `x` is 0, it stays 0."""
    # The largest entry is divided out first, so that squares do not overflow.
    unit = x / unit_of(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0)).astype(x.dtype)
    size = _norm(unit, axis)
    return unit * (target / jnp.where(size == 0, 1, size)).astype(x.dtype)


def _norm(x: Matrices, axis: tuple[int, ...] = (-2, -1)) -> Annotated[jax.Array, "batch _ _"]:
    return sqrt(jnp.sum(jnp.square(jnp.abs(x)), axis=axis, keepdims=True))


class equilibrate_rows(Matrixwise):
    r"""Every row of a matrix is scaled to norm one, and rows of zeros stay zero.

    $$ u_i = g_i / \|g_i\| $$

    Orthogonalization does not depend on the common norm of the rows, so before an orthogonalization this
    is the row equilibration of MuonEq.

    Args:
        axes: the rule that says which axes of a leaf are its matrix.

    Raises:
        ValueError: if a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Chang et al., 2026, arXiv:2603.28254.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.equilibrate_rows()  # the row of an output is a column of this array
    >>> tx.update(jnp.array([[3.0, 0.0], [4.0, 0.5]]), ())[0]
    Array([[0.6, 0. ],
           [0.8, 1. ]], dtype=float32)
    """

    linear = True  # it takes gradients of any size
    keeps_zero = True
    only_sums = True

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        return _rescaled(x, 1.0, axis=(-2,)), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        words = r"\text{: the norm of the row that an entry lies in, one row per output}"
        return fraction(g, page.norm(g, r"_{\mathrm{row}}", words))


class scale_to_rms(Recipe):
    r"""Every matrix is scaled to the same root mean square, and a matrix of zeros stays zero.

    $$ u = r \sqrt{mn}\, g / \|g\|_F $$

    Args:
        rms: the root mean square $r \ge 0$.
        axes: the rule that says which axes of a leaf are its matrix, of shape $m \times n$.

    Raises:
        ValueError: if `rms` is negative, or a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Si, Zhang & Shen, 2025, arXiv:2507.11005.
    """

    rms: Hyper = 0.2
    _: KW_ONLY
    axes: MatrixRule = hidden_matrices()
    limits = {"rms": "[0, inf)"}

    def state(self) -> Any:
        return optax.ScaleByScheduleState if callable(self.rms) else None

    def expand(self) -> Transform:
        return identity() / matrix_norm(rms=True, axes=self.axes) * self.rms


class keep_norm(Wrapper, Matrixwise):
    r"""The inner transformation's update of every matrix is scaled to the norm of the gradient.

    $$ u = f(g)\, \|g\|_F / \|f(g)\|_F $$

    Where $f(g)$ is 0, the update is 0.

    Args:
        inner: the transformation $f$.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is the state of `inner`.

    Raises:
        TypeError: if `inner` is not a transformation, or `axes` is not a rule for matrices.
        ValueError: if a leaf has fewer than two axes.

    Source: Li et al., 2025, arXiv:2510.05491 (NorMuon).
    """

    linear = as_inner
    keeps_zero = True
    only_sums = True

    def update_matrix(self, x: Matrices, state: Any, given: Matrices) -> tuple[Matrices, Any]:
        unit, small = divided(given)
        return _rescaled(x, _norm(small)) * unit.astype(x.dtype), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g, words = page.symbol(g), r"\text{: the Frobenius norm of one matrix}"
        u = page.symbol(self.inner.tex(g, page))
        return times(fraction(page.norm(g, "_F", words), page.norm(u, "_F", words)), u)


class ScaleByNeuronRmsState(NamedTuple):
    """The state of `scale_by_neuron_rms`: the average of the mean square of every row, one number per
    neuron, of shape `[batch, 1, outputs]`."""

    nu: Annotated[jax.Array, "batch 1 out"]


class scale_by_neuron_rms(Matrixwise):
    r"""Every row of a matrix is divided by its root mean square, averaged over the steps.

    $$ v_{t,i} = b\, v_{t-1,i} + (1 - b) \operatorname{mean}_j |g_{ij}|^2, \qquad
       u_{ij} = g_{ij} / (\sqrt{v_{t,i}} + \epsilon) $$

    Args:
        decay: $b$, in [0, 1).
        eps: $\epsilon \ge 0$.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `ScaleByNeuronRmsState(nu)`, where `nu` is $v$, one number per neuron.

    Raises:
        ValueError: if a number lies outside its interval, or a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Li et al., 2025, arXiv:2510.05491 (NorMuon).
    """

    decay: Hyper = 0.95
    eps: Hyper = 1e-10
    limits = {"decay": "[0, 1)", "eps": "[0, inf)"}
    degrees = {"nu": 2}
    keeps_zero = True
    only_sums = True

    def init_matrix(self, x: Matrices) -> ScaleByNeuronRmsState:
        return ScaleByNeuronRmsState(nu=accumulator(x[:, :1], real=True))

    def update_matrix(
        self, x: Matrices, state: ScaleByNeuronRmsState
    ) -> tuple[Matrices, ScaleByNeuronRmsState]:
        # Every square is divided before the sum, so that the sum stays finite.
        square = jnp.sum(abs_square(x) / max(x.shape[-2], 1), -2, keepdims=True)
        nu = average_of_squares(state.nu, square, self.decay)
        root = sqrt(nu) + self.eps
        return x / jnp.where(root == 0, 1, root).astype(x.dtype), ScaleByNeuronRmsState(nu)

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the mean of the row that an entry lies in, one row per output}"
        g = page.symbol(g)
        v = page.average("v", self.decay, page.function("rowmean", words, square(g)))
        return fraction(g, plus(sqrt_tex(v), page.number(self.eps, r"\epsilon")))

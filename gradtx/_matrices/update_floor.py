"""A floor on the ratio of the norm of an update to the norm of the weights."""

from typing import Any, Literal

import jax.numpy as jnp

from gradtx._core.latex import THETA, Page, Tex, fraction, times
from gradtx._core.shapes import Leaf
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.grids import OnGrid, block_norms, in_blocks


class floor_update_ratio(OnGrid):
    r"""Every update is enlarged, if necessary, to at least a fraction of the norm of its weights.

    $$ u = g\, \max(1, \kappa\, \|W\| / \|g\|) $$

    Before `scale_by_learning_rate`, every matrix then moves by at least the fraction $\eta \kappa$ of
    its norm, which takes the place of a weight decay. An update of 0 stays 0.

    Args:
        ratio: $\kappa \ge 0$, a number, a schedule, or an array under `vmap`.
        per: whether $W$ and $g$ are whole matrices, "matrix", or rows with the incoming weights of one
            output, "row".
        axes: the rule that says which axes of a leaf are its matrix.

    With `keep_norm(floor_update_ratio(0.38, per="row"))` after a floor per matrix, rows share the
    norm of their matrix.

    Raises:
        ValueError: if `ratio` is negative, if `per` is unknown, if a leaf has fewer than two axes, or
            if `update` is called without the parameters.
        TypeError: if `axes` is not a rule for matrices.

    Source: the track for optimizers of modded-nanogpt, 2026.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.floor_update_ratio(0.5), jnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> tx.update(jnp.array([[0.0, 0.1], [0.0, 0.0]]), tx.init(w), w)[0]
    Array([[0. , 2.5],
           [0. , 0. ]], dtype=float32)
    """

    ratio: Hyper = 0.35
    per: Literal["matrix", "row"] = "matrix"
    axes: MatrixRule = hidden_matrices()
    limits = {"ratio": "[0, inf)"}

    @property
    def block(self) -> Literal["matrix", "row"]:
        return self.per

    def update_leaf(self, update: Leaf, state: Any, param: Any) -> tuple[Leaf, Any]:
        grid = self.grid(update.shape)
        g, inside = in_blocks(update, grid)
        w, _ = in_blocks(param, grid)
        size, ratio = block_norms(w, inside)
        least = self.ratio * size * ratio
        unit, ratio = block_norms(g, inside)
        # The norm of the update may overflow, so it is compared with the floor in units of its own.
        short = (ratio > 0) & (ratio < least / unit)
        factor = jnp.where(short, least / jnp.where(short, ratio, 1), jnp.ones_like(ratio))
        u = g / jnp.where(short, unit, jnp.ones_like(unit)) * factor
        return u.reshape(update.shape), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        index, what = ("_F", "matrix") if self.per == "matrix" else (r"_{\mathrm{row}}", "row")
        words = rf"\text{{: the norm of the {what} that an entry lies in}}"
        least = times(page.number(self.ratio, r"\kappa"), page.norm(THETA, index, words))
        quotient = fraction(least, page.norm(g, index, words))
        return times(Tex(rf"\max\left(1, {quotient.text}\right)"), g)

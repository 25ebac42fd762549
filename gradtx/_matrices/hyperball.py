"""The hyperball: steps of a given angle, after which every matrix has the norm of the start."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import THETA, Page, Tex, fraction, plus, times
from gradtx._core.layout import shared
from gradtx._core.schedule import next_count
from gradtx._core.shapes import Leaf
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.grids import (
    OnGrid,
    block_norms,
    grid_accumulator,
    in_blocks,
    over_nonzero,
    update_to,
)


class HyperballState(NamedTuple):
    """The state of `hyperball`.

    Attributes:
        step: the number of steps taken.
        last_learning_rate: the learning rate of the last step.
        radius: for every matrix its norm at the first step; 0 before that.
    """

    step: Any
    last_learning_rate: Any
    radius: Any


class hyperball(OnGrid):
    r"""Every matrix takes a step of a given length, and is then brought back to the norm of the start.

    $$ W' = W - \eta\, R\, \frac{g}{\|g\|}, \qquad u = R\, \frac{W'}{\|W'\|} - W $$

    The norm is Frobenius', and $R$ is the norm of the matrix at the first step. So $\eta$ is about the
    angle of a step in radians, whatever the size of the gradient and of the matrix, and a weight decay
    is not needed. This transformation takes the place of `scale_by_learning_rate`, and must be the last
    in a chain, so that $g$ is the direction of the step.

    A matrix of zeros does not have a direction to keep, and never moves, unless `radius` is given. Where
    $g$ is 0, the update is 0. Stacked layers, experts and fused projections are separate matrices; fused
    projections of unequal size count as one.

    Args:
        learning_rate: $\eta$, a number, a schedule, or an array under `vmap`. For a rate $\eta_0$ and a
            decay $\lambda$ of AdamW, $\sqrt{\eta_0 \lambda}$ is a first guess.
        radius: $R > 0$, the same for all matrices. None means the norm of each matrix at the first step.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `HyperballState(step, last_learning_rate, radius)`.

    Raises:
        ValueError: if `radius` is not positive, if a leaf has fewer than two axes, or if `update` is
            called without the parameters.
        TypeError: if `learning_rate` is not a number, an array or a schedule, or if `axes` is not a
            rule for matrices.

    Source: Wen et al., 2026, arXiv:2606.16899.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.hyperball(1.0), jnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> w += tx.update(jnp.array([[0.0, -9.0], [0.0, 0.0]]), tx.init(w), w)[0]
    >>> [round(float(x), 3) for x in w.ravel()], round(float(jnp.linalg.norm(w)), 3)
    ([2.121, 3.536, 0.0, 2.828], 5.0)
    """

    learning_rate: Hyper
    radius: Hyper | None = None
    axes: MatrixRule = hidden_matrices()
    limits = {"learning_rate": "(-inf, inf)", "radius": "(0, inf)"}
    degrees = {"radius": 0}

    def init_leaf(self, param: Any) -> HyperballState:
        radius = grid_accumulator(param, self.grid(param.shape))
        return HyperballState(shared(0), shared(0.0), radius)

    def first_state(self, state: HyperballState) -> HyperballState:
        return state._replace(last_learning_rate=self.at(0).learning_rate)

    def begin(self, state: HyperballState, measured: Any) -> tuple[HyperballState, Any]:
        rate = scalar(self.learning_rate)
        return state._replace(step=next_count(state.step), last_learning_rate=rate), rate

    def update_leaf(
        self, update: Leaf, state: HyperballState, param: Any, rate: Any
    ) -> tuple[Leaf, HyperballState]:
        grid = self.grid(update.shape)
        g, inside = in_blocks(update, grid)
        w, _ = in_blocks(param, grid)
        unit, ratio = block_norms(w, inside)
        size = unit * ratio
        kept = state.radius.reshape(size.shape)
        # A matrix of zeros takes its radius when it is not zero any more.
        kept = jnp.where(kept > 0, kept, size)
        radius = kept if self.radius is None else jnp.full_like(size, self.radius)
        unit, ratio = block_norms(g, inside)
        step = rate * radius * over_nonzero(g / unit, ratio)
        moved = w - step
        unit, length = block_norms(moved, inside)
        new = over_nonzero(moved / unit, length) * radius
        factor = over_nonzero(radius / unit, length)
        u = update_to(new, w, factor, -factor * step)
        u = jnp.where(ratio == 0, jnp.zeros_like(w), u)
        return u.reshape(update.shape), state._replace(radius=kept.reshape(state.radius.shape))

    def tex(self, g: Tex, page: Page) -> Tex:
        g, words = page.symbol(g), r"\text{: the Frobenius norm of one matrix}"
        if self.radius is None:
            radius = Tex("R")
            page.notes["R"] = r"\text{: the norm of the matrix at the first step}"
        else:
            radius = page.number(self.radius, "R")
        rate = times(page.number(self.learning_rate, r"\eta"), radius)
        step = times(rate, fraction(g, page.norm(g, "_F", words)))
        moved = page.define("w", lambda _: plus(THETA, step, "-"))
        return plus(times(radius, fraction(moved, page.norm(moved, "_F", words))), THETA, "-")

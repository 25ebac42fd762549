"""The radial part of a step, along the matrix itself, and the norm that a step leaves a matrix with."""

from typing import Any

import jax.numpy as jnp

from gradtx._core.dtypes import scalar
from gradtx._core.latex import OTHERWISE, THETA, Page, Tex, cases, fraction, plus, times
from gradtx._core.layout import shared
from gradtx._core.schedule import next_count
from gradtx._core.shapes import Leaf
from gradtx._core.values import Hyper
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.grids import Cut, OnGrid, block_norms, in_blocks, over_nonzero
from gradtx._transforms.scale import LearningRateState


def _radial(g: Cut, w: Cut, inside: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    """The part of each matrix `g` along the matrix `w`.

    Returns:
        The unit of `g`, `g` over its unit, the direction of `w`, and the inner product of the last two.
    """
    unit, _ = block_norms(g, inside)
    size, ratio = block_norms(w, inside)
    toward, scaled = over_nonzero(w / size, ratio), g / unit
    along = jnp.sum((scaled * toward.conj()).real, inside, keepdims=True)
    return unit, scaled, toward, along


class brake_radial(OnGrid):
    r"""The part of every update that changes the norm of its matrix is multiplied by a number.

    $$ u = g + (c - 1)\, \frac{\langle g, W \rangle}{\|W\|^2}\, W $$

    where $c$ is `outward` if a step against $g$ makes the norm larger, $\langle g, W \rangle < 0$, and
    `inward` otherwise. The rest of the update, which turns the matrix, is unchanged. With 0 and 0, all
    steps are tangents of the sphere.

    Args:
        outward: the factor of a part that makes the norm larger, 0 or more.
        inward: the factor of a part that makes the norm smaller, 0 or more.
        axes: the rule that says which axes of a leaf are its matrix.

    Both numbers may be schedules, or arrays under `vmap`. Where the matrix is 0, the update is
    unchanged.

    Raises:
        ValueError: if a number is negative, if a leaf has fewer than two axes, or if `update` is called
            without the parameters.
        TypeError: if `axes` is not a rule for matrices.

    Source: the track for optimizers of modded-nanogpt, 2026.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.brake_radial(0.5), jnp.array([[2.0, 0.0], [0.0, 0.0]])
    >>> tx.update(jnp.array([[-4.0, 3.0], [0.0, 0.0]]), tx.init(w), w)[0]
    Array([[-2.,  3.],
           [ 0.,  0.]], dtype=float32)
    """

    outward: Hyper = 0.5
    inward: Hyper = 1.0
    axes: MatrixRule = hidden_matrices()
    limits = {"outward": "[0, inf)", "inward": "[0, inf)"}
    linear = False  # the radial part of a gradient of the largest numbers may be infinite

    def update_leaf(self, update: Leaf, state: Any, param: Any) -> tuple[Leaf, Any]:
        grid = self.grid(update.shape)
        g, inside = in_blocks(update, grid)
        w, _ = in_blocks(param, grid)
        unit, scaled, toward, along = _radial(g, w, inside)
        factor = jnp.where(
            along < 0, jnp.asarray(self.outward) - 1, jnp.asarray(self.inward) - 1
        ).astype(along.dtype)
        u = scaled + factor * along * toward
        return (u * unit).reshape(update.shape), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g = page.symbol(g)
        product = page.function("inner", r"\text{: the inner product of two matrices}", g, THETA)
        norm = page.norm(THETA, "_F", r"\text{: the Frobenius norm of one matrix}")
        outward, inward = (
            plus(page.number(x, letter), Tex("1"), "-")
            for x, letter in ((self.outward, "c"), (self.inward, "d"))
        )
        factor = cases((outward, rf"\text{{if }}{product.text} < 0"), (inward, OTHERWISE))
        k = page.define("k", lambda _: factor)
        part = times(fraction(product, Tex(rf"{norm.text}^2")), THETA)
        return plus(g, times(k, part))


class radial_step(OnGrid):
    r"""A step after which the norm of a matrix has changed by the radial part of the step alone.

    $$ W' = W - \eta\, g, \qquad u = \left(\|W\| - \eta\, \frac{\langle g, W \rangle}{\|W\|}\right)
       \frac{W'}{\|W'\|} - W $$

    A plain step also makes the norm larger by its tangential part, as every tangent leaves a sphere.
    Here a tangential step keeps the norm. This transformation takes the place of
    `scale_by_learning_rate`, and must be the last in a chain, so that $g$ is the direction of the step.
    The norm is at least 0. Where a matrix is 0, the update is $-\eta\, g$.

    Args:
        learning_rate: $\eta$, a number, a schedule, or an array under `vmap`.
        axes: the rule that says which axes of a leaf are its matrix.

    The state is `LearningRateState(step, last_learning_rate)`.

    Raises:
        ValueError: if a leaf has fewer than two axes, or if `update` is called without the parameters.
        TypeError: if `learning_rate` is not a number, an array or a schedule, or if `axes` is not a
            rule for matrices.

    Source: the track for optimizers of modded-nanogpt, 2026.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.radial_step(1.0), jnp.array([[3.0, 0.0], [0.0, 0.0]])
    >>> w += tx.update(jnp.array([[1.0, -2.0], [0.0, 0.0]]), tx.init(w), w)[0]
    >>> round(float(jnp.linalg.norm(w)), 4)  # the first entry of the gradient is the radial part
    2.0
    """

    learning_rate: Hyper
    axes: MatrixRule = hidden_matrices()
    limits = {"learning_rate": "(-inf, inf)"}
    linear = False  # a step of the largest numbers may be infinite

    def init_leaf(self, param: Any) -> LearningRateState:
        return LearningRateState(step=shared(0), last_learning_rate=shared(0.0))

    def first_state(self, state: LearningRateState) -> LearningRateState:
        return state._replace(last_learning_rate=self.at(0).learning_rate)

    def begin(self, state: LearningRateState, measured: Any) -> tuple[LearningRateState, Any]:
        rate = scalar(self.learning_rate)
        return LearningRateState(next_count(state.step), rate), rate

    def update_leaf(self, update: Leaf, state: Any, param: Any, rate: Any) -> tuple[Leaf, Any]:
        grid = self.grid(update.shape)
        g, inside = in_blocks(update, grid)
        w, _ = in_blocks(param, grid)
        unit, _, _, along = _radial(g, w, inside)
        size, ratio = block_norms(w, inside)
        target = jnp.maximum(size * ratio - rate * unit * along, 0)
        moved = w - rate * g
        length_unit, length = block_norms(moved, inside)
        new = over_nonzero(moved / length_unit, length) * target
        u = jnp.where(ratio == 0, -rate * g, new - w)
        u = jnp.where(jnp.max(jnp.abs(g), inside, keepdims=True, initial=0) == 0, 0 * g, u)
        return u.reshape(update.shape), state

    def tex(self, g: Tex, page: Page) -> Tex:
        g, words = page.symbol(g), r"\text{: the Frobenius norm of one matrix}"
        rate, norm = page.number(self.learning_rate, r"\eta"), page.norm(THETA, "_F", words)
        product = page.function("inner", r"\text{: the inner product of two matrices}", g, THETA)
        target = plus(norm, times(rate, fraction(product, norm)), "-")
        moved = page.define("w", lambda _: plus(THETA, times(rate, g), "-"))
        size = page.norm(moved, "_F", words)
        return plus(times(page.define("r", lambda _: target), fraction(moved, size)), THETA, "-")

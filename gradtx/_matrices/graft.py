"""Grafting: the direction of one transformation with the norm of another."""

from collections.abc import Hashable
from typing import Any

import jax.numpy as jnp

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import Page, Tex
from gradtx._core.numerics import filled_like, nonzero_or_one, sqrt
from gradtx._core.shapes import Matrices
from gradtx._core.transform import Transform
from gradtx._matrices.axes import MatrixRule
from gradtx._matrices.matrixwise import Matrixwise
from gradtx._transforms.block_norms import block_norm, product


class matrix_norm(Matrixwise):
    r"""Every entry of the update is the Frobenius norm of its matrix.

    $$ u = \|g\|_F $$

    Args:
        axes: the rule that says which axes of a leaf are its matrix. Stacked layers are separate
            matrices.

    Raises:
        ValueError: if a leaf has fewer than two axes.
        TypeError: if `axes` is not a rule for matrices.

    Source: Carlson et al., 2015 (the normalized gradient of a layer).

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.matrix_norm().update(jnp.array([[3.0, 0.0], [0.0, 4.0]]), ())[0]
    Array([[5., 5.],
           [5., 5.]], dtype=float32)
    """

    linear = True  # it takes gradients of any size
    keeps_zero = True
    only_sums = True

    def update_matrix(self, x: Matrices, state: Any) -> tuple[Matrices, Any]:
        largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0)
        # XLA may multiply by the reciprocal of the unit, which must not be too small for the dtype.
        unit = nonzero_or_one(jnp.minimum(largest, jnp.finfo(x.dtype).max * 2.0**-16))
        ratio = sqrt(jnp.sum(jnp.square(jnp.abs(x) / unit), axis=(-2, -1), keepdims=True))
        return filled_like(x, product(unit, ratio)), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.norm(page.symbol(g), "_F", r"\text{: the Frobenius norm of one matrix}")


class graft(Recipe):
    r"""The update has the direction of one transformation and the norm of another.

    $$ u = \|a(g)\|\, \frac{b(g)}{\|b(g)\|} $$

    Both norms are taken over one leaf, or over one matrix. Where $b(g)$ is 0, the update is 0.

    Args:
        norm: $a$, the transformation that decides how long the update is.
        direction: $b$, the transformation that decides where the update points.
        axes: a rule that says which axes of a leaf are its matrix, such as `hidden_matrices()`. Then
            every matrix of a stack has a norm of its own. None means the norm of the whole leaf.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded. With None, every device takes the norms of what it holds.

    The state is the pair of the states of `direction` and `norm`, each followed by an empty state.

    Raises:
        TypeError: if `norm` or `direction` is not a transformation, or if `axes` is not a rule for
            matrices.

    Source: Agarwal et al., 2020, arXiv:2002.11803.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.graft(gradtx.identity(), gradtx.scale_by_sign())
    >>> update, _ = tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))
    >>> jnp.round(update, 2)  # equally far along both axes, and as long as the gradient
    Array([ 3.54, -3.54], dtype=float32)
    """

    norm: AsTransform
    direction: AsTransform
    axes: MatrixRule | None = None
    axis_name: Hashable | None = None

    def expand(self) -> Transform:
        size = block_norm(self.axis_name) if self.axes is None else matrix_norm(axes=self.axes)
        return chain(self.direction, identity() / size) * chain(self.norm, size)

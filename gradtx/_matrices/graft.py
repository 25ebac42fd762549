"""Grafting: the direction of one transformation with the norm of another."""

from collections.abc import Hashable

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.foreign import AsTransform
from gradtx._core.transform import Transform
from gradtx._matrices.axes import MatrixRule
from gradtx._matrices.norms import matrix_norm
from gradtx._transforms.block_norms import block_norm


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
        size = (
            block_norm(axis_name=self.axis_name)
            if self.axes is None
            else matrix_norm(axes=self.axes)
        )
        return chain(self.direction, identity() / size) * chain(self.norm, size)

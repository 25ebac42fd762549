"""Blocks of parameters that are whole matrices or whole leaves."""

from typing import Any

from gradtx._core.values import Value
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.shards import refuse_part


class matrix_blocks(Value):
    r"""Every matrix is one block, for `blockwise_second_moment`.

    Stacked layers, and projections that are fused in equal parts, are separate matrices. A vector is one
    block.

    Args:
        axes: the rule that says which axes of a leaf are its matrix.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.matrix_blocks().blocks("layers/kernel", jnp.ones((6, 8, 16)))
    (6, 1, 1)
    """

    axes: MatrixRule = hidden_matrices()

    def blocks(self, path: str, leaf: Any) -> tuple[int, ...]:
        """The number of blocks along each axis of a leaf.

        Args:
            path: the path of the leaf, such as `layers/0/attention/query/kernel`.
            leaf: an array, or whatever else has a shape.

        Raises:
            ValueError: if `axes` says that a device holds a part of a matrix, inside `shard_map`.
        """
        shape = tuple(leaf.shape)
        if len(shape) < 2:
            refuse_part(self.axes, path, leaf)
            return (1,) * len(shape)
        axes = self.axes.axes(path, leaf)
        inside = {k % len(shape) for k in (*axes.inputs, *axes.outputs)}
        refuse_part(self.axes, path, leaf, inside)
        grid = [1 if k in inside else n for k, n in enumerate(shape)]
        if len(axes.outputs) == 1 and isinstance(axes.blocks, int):
            grid[axes.outputs[0]] = axes.blocks
        return tuple(grid)


class leaf_blocks(Value):
    r"""Every leaf is one block with a scalar, for `blockwise_second_moment`.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.leaf_blocks().blocks("layers/kernel", jnp.ones((6, 8, 16)))
    ()
    """

    def blocks(self, path: str, leaf: Any) -> tuple[int, ...]:
        """No number for any axis, so that the leaf is one block.

        Args:
            path: the path of the leaf, such as `layers/0/attention/query/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        return ()

"""Blocks of parameters: the groups of entries of an array that share one second moment in Adam-mini."""

import re
from typing import Any, Protocol

from gradtx._compose.by import is_count
from gradtx._compose.patterns import EMBEDDING, VECTOR, found
from gradtx._core.values import Value
from gradtx._matrices.axes import MatrixRule, hidden_matrices
from gradtx._matrices.shards import refuse_part


class BlockRule(Protocol):
    """A rule that says how the axes of a leaf are divided, such as `transformer_blocks()`."""

    def blocks(self, path: str, leaf: Any, /) -> tuple[int, ...]: ...


class transformer_blocks(Value):
    r"""The rule that divides each leaf of a transformer into the blocks of Adam-mini.

    `rule.blocks(path, leaf)` returns one number for each axis of a leaf. An axis with the number $n$ is
    divided into $n$ equal parts. If $n$ is 1, then the axis is not divided; if $n$ is the length of the
    axis, then each of its indices is a part of its own. The paper chooses blocks within which the
    Hessian is dense.

    - The projections to queries and keys have one block per head.
    - An embedding has one block per token, which is an index of its first axis.
    - Every other matrix has one block per output. Each matrix of a stack has its own blocks.
    - A vector, such as a bias or a gain, is one block.

    Args:
        heads: the number of heads, for queries and keys whose outputs lie along a single axis. None
            means one block per output there. Where the heads have an axis of the array to themselves,
            its length is their number, and `heads` is not used.
        query_key: the pattern of the projections to queries and keys, a regular expression that is
            searched in the path, where upper and lower case are the same.
        embedding: the pattern of embeddings.
        vector: the pattern of norms, gains and biases, which have one block per leading index.
        axes: the rule that says which axes of a leaf are inputs and outputs.

    Raises:
        ValueError: if a pattern is not a regular expression, or if `heads` is less than 1. The `init` of
            an optimizer raises it if `heads` does not divide the number of outputs.

    Source: Zhang et al., 2024, arXiv:2406.16793, algorithm 3.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.transformer_blocks(heads=4)
    >>> (
    ...     rule.blocks("attention/query/kernel", jnp.ones((32, 32))),
    ...     rule.blocks("up", jnp.ones((32, 8))),
    ... )
    ((1, 4), (1, 8))
    """

    heads: int | None = None
    query_key: str = r"(^|/)(query|key|q|k)(_?proj)?/"
    embedding: str = EMBEDDING
    vector: str = VECTOR
    axes: MatrixRule = hidden_matrices()

    def validate(self) -> None:
        if self.heads is not None and not is_count(self.heads, 1):
            raise ValueError(f"`transformer_blocks(heads={self.heads})` must be 1 or more.")
        for name in ("query_key", "embedding", "vector"):
            try:
                re.compile(getattr(self, name))
            except re.error as error:
                raise ValueError(
                    f"`transformer_blocks({name}={getattr(self, name)!r})` must be a regular "
                    f"expression ({error})."
                ) from None

    def blocks(self, path: str, leaf: Any) -> tuple[int, ...]:
        """The number of blocks along each axis of a leaf.

        Args:
            path: the path of the leaf, such as `layers/0/attention/query/kernel`.
            leaf: an array, or whatever else has a shape.

        Raises:
            ValueError: if `heads` does not divide the number of outputs of a query or key, or if `axes`
                says that a device holds a part of a block, inside `shard_map`.
        """
        shape = tuple(leaf.shape)
        if len(shape) < 2:
            refuse_part(self.axes, path, leaf)
            return (1,) * len(shape)
        if found(self.embedding, path) or found(self.vector, path):
            refuse_part(self.axes, path, leaf, [len(shape) - 1])
            return (*shape[:-1], 1)
        axes = self.axes.axes(path, leaf)
        outputs = [k % len(shape) for k in axes.outputs]
        inputs = [k % len(shape) for k in axes.inputs]
        is_cut = found(self.query_key, path) and (len(outputs) > 1 or self.heads is not None)
        refuse_part(self.axes, path, leaf, [*inputs, *(outputs[-1:] if is_cut else [])])
        grid = [1 if k in inputs else n for k, n in enumerate(shape)]
        if not found(self.query_key, path):
            return tuple(grid)
        if len(outputs) > 1:
            grid[outputs[-1]] = 1  # the axis before it is that of the heads
        elif self.heads is not None:
            if shape[outputs[0]] % self.heads:
                raise ValueError(
                    f"`transformer_blocks(heads={self.heads})` does not divide the "
                    f"{shape[outputs[0]]} outputs of `{path}`."
                )
            grid[outputs[0]] = self.heads
        return tuple(grid)

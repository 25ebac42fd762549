"""`MatrixAxes`: how an array is taken apart into matrices, and put together again."""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from gradtx._core.arguments import explained
from gradtx._core.authors import described
from gradtx._core.shapes import Leaf, Matrices
from gradtx._core.sharding import manual_axes


class MatrixAxes(NamedTuple):
    """The axes of an array that are the inputs and the outputs of a matrix; all others are a batch.

    Args:
        inputs: the axes that are flattened into the inputs.
        outputs: the axes that are flattened into the outputs.
        blocks: the number of matrices that are fused along the outputs, each with an equal part of them;
            or, for unequal parts, the ratio of these parts, such as (4, 1, 1).
        spec: for every axis of the array the names of the mesh axes that shard it, or None if that is
            not known. Inside `shard_map` an array is what the device holds, and `spec` says that it is a
            part of a larger one.

    >>> import gradtx, jax.numpy as jnp
    >>> axes = gradtx.MatrixAxes(inputs=(1,), outputs=(2,), blocks=3)  # stacked layers of fused QKV
    >>> axes.split(jnp.ones((12, 64, 192))).shape
    (36, 64, 64)
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    blocks: int | tuple[int, ...] = 1
    spec: tuple[tuple[str, ...], ...] | None = None

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The numbers of inputs and outputs of one whole matrix; of unequal parts, of the largest.

        Args:
            shape: the shape of the array.
        """
        return max(self.sizes(shape), key=lambda size: size[1])

    def sizes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """The numbers of inputs and outputs of whole matrices of each part; one pair for equal parts.

        Args:
            shape: the shape of the array.
        """
        return self._sizes(self.whole(shape))

    def whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole array, if inside `shard_map` this is the shape of a part of it.

        Args:
            shape: the shape of the array, or of what the device holds of it.
        """
        devices = manual_axes() if self.spec else {}
        if not devices:
            return shape
        parts = [math.prod(devices.get(n, 1) for n in names) for names in self.spec or ()]
        return tuple(n * k for n, k in zip(shape, parts, strict=True))

    @property
    def is_part(self) -> bool:
        """Whether an array is a part of a larger one, since `shard_map` goes over an axis in `spec`."""
        devices = manual_axes() if self.spec else {}
        return any(devices.get(n, 1) > 1 for names in self.spec or () for n in names)

    def _sizes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        inputs = math.prod(map(shape.__getitem__, self.inputs))
        outputs = math.prod(map(shape.__getitem__, self.outputs))
        if isinstance(self.blocks, int):
            return [(inputs, outputs // self.blocks)]
        return [(inputs, outputs * n // sum(self.blocks)) for n in self.blocks]

    def batch(self, shape: tuple[int, ...]) -> int:
        """The number of matrices in an array.

        Args:
            shape: the shape of the array.
        """
        blocks = self.blocks if isinstance(self.blocks, int) else len(self.blocks)
        axes = self._order(len(shape))[: self._batch_rank(shape)]
        return blocks * math.prod(map(shape.__getitem__, axes))

    def split(self, x: Leaf) -> Matrices:
        """Take an array apart into matrices `[batch, inputs, outputs]`.

        Args:
            x: the array.

        Raises:
            ValueError: if the parts are unequal. `split_parts` takes these apart.
        """
        order, batch = self._order(x.ndim), self.batch(x.shape)
        ((inputs, outputs),) = self._replace(blocks=self._equal)._sizes(x.shape)
        split = batch // self._equal, inputs, self._equal, outputs
        matrices = jnp.transpose(x, order).reshape(split)
        return jnp.swapaxes(matrices, 1, 2).reshape(batch, inputs, outputs)

    def join(self, matrices: Matrices, shape: tuple[int, ...]) -> Leaf:
        """Put an array together from its matrices, which undoes `split`.

        Args:
            matrices: the matrices `[batch, inputs, outputs]`.
            shape: the shape of the array.
        """
        order = self._order(len(shape))
        ((inputs, outputs),) = self._replace(blocks=self._equal)._sizes(shape)
        split = self.batch(shape) // self._equal, self._equal, inputs, outputs
        x = jnp.swapaxes(matrices.reshape(split), 1, 2)
        x = x.reshape([shape[i] for i in order])
        return jnp.transpose(x, sorted(range(len(shape)), key=order.__getitem__))

    def split_parts(self, x: Leaf) -> list[Matrices]:
        """Take an array apart into matrices `[batch, inputs, outputs]`, one stack for each unequal part.

        Args:
            x: the array.
        """
        if isinstance(self.blocks, int):
            return [self.split(x)]
        sizes = [outputs for _, outputs in self._sizes(x.shape)]
        whole = self._replace(blocks=1).split(x)
        return jnp.split(whole, list(itertools.accumulate(sizes))[:-1], axis=2)

    def join_parts(self, parts: list[Matrices], shape: tuple[int, ...]) -> Leaf:
        """Put an array together from its matrices, which undoes `split_parts`.

        Args:
            parts: the matrices `[batch, inputs, outputs]` of each part.
            shape: the shape of the array.
        """
        if isinstance(self.blocks, int):
            return self.join(parts[0], shape)
        return self._replace(blocks=1).join(jnp.concatenate(parts, axis=2), shape)

    def along_outputs(self, values: list[float], shape: tuple[int, ...]) -> np.ndarray:
        """One number per output, where `values` has one for each part, as an array to multiply by.

        Args:
            values: a number for each part.
            shape: the shape of the array. The result has a length of 1 along all axes but the outputs.
        """
        counts = [outputs for _, outputs in self._sizes(shape)]
        lengths = [shape[i] for i in self.outputs]
        along = np.repeat(np.asarray(values, np.float32), counts).reshape(lengths)
        axes = [i % len(shape) for i in self.outputs]
        along = along.transpose(np.argsort(axes))
        return along.reshape([n if i in axes else 1 for i, n in enumerate(shape)])

    @property
    def _equal(self) -> int:
        if isinstance(self.blocks, int):
            return self.blocks
        raise ValueError(
            f"The parts {self.blocks} are unequal. Call `split_parts` and `join_parts` instead."
        )

    def _batch_rank(self, shape: tuple[int, ...]) -> int:
        return len(shape) - len(self.inputs) - len(self.outputs)

    def _order(self, ndim: int) -> list[int]:
        return [*_order(tuple(self.inputs), tuple(self.outputs), ndim)]


@functools.lru_cache(maxsize=256)
def _order(inputs: tuple[int, ...], outputs: tuple[int, ...], ndim: int) -> list[int]:
    """The axes of the batch, then the inputs, and then the outputs."""
    matrix = [i % ndim for i in (*inputs, *outputs)]
    return [i for i in range(ndim) if i not in matrix] + matrix


_new = MatrixAxes.__new__


def _checked(cls: Any, inputs: Any, outputs: Any, blocks: Any = 1, spec: Any = None) -> Any:
    for name, axes in (("inputs", inputs), ("outputs", outputs)):
        if not _are_counts(axes):
            raise TypeError(
                f"`MatrixAxes({name}=...)` must be a tuple of whole numbers, such as `(0,)`, not "
                f"{described(axes)}."
            )
    numbers = (blocks,) if type(blocks) is int else blocks
    if not _are_counts(numbers) or min(numbers, default=0) < 1:
        raise TypeError(
            "`MatrixAxes(blocks=...)` must be a number of matrices, 1 or more, or a tuple of such "
            f"numbers, not {described(blocks)}."
        )
    return _new(cls, inputs, outputs, blocks, spec)


def _are_counts(x: Any) -> bool:
    if not isinstance(x, tuple | list):
        return False
    for i in x:  # noqa: SIM110 - a generator would cost a call for every axis
        if not isinstance(i, int):
            return False
    return True


_checked.__name__ = "__new__"
MatrixAxes.__new__ = explained(_checked)  # pyright: ignore[reportAttributeAccessIssue]

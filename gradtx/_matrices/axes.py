"""Which parameters are hidden matrices, and which of their axes are the inputs and the outputs.

Where the shape leaves this open, the name decides. The first axis of a `kernel` or a `w` (Flax, Haiku)
is the input, the first axis of a `weight` (Equinox, torch) is the output. A convolution is flattened to
one matrix of (height x width x inputs, outputs). The projections of attention have an axis of heads,
which belongs to the inputs or to the outputs. All remaining axes, such as stacked layers and experts,
are a batch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from gradtx._compose.patterns import EMBEDDING, HEAD, VECTOR, found, has_pattern, unmatched
from gradtx._compose.rules import Rule
from gradtx._core.arguments import explained
from gradtx._core.authors import described
from gradtx._core.shapes import Leaf, Matrices


class MatrixAxes(NamedTuple):
    """The axes of an array that are the inputs and the outputs of a matrix; all others are a batch.

    Args:
        inputs: the axes that are flattened into the inputs.
        outputs: the axes that are flattened into the outputs.
        blocks: the number of matrices that are fused along the outputs, each with an equal part of them.

    >>> import gradtx, jax.numpy as jnp
    >>> axes = gradtx.MatrixAxes(inputs=(1,), outputs=(2,), blocks=3)  # stacked layers of fused QKV
    >>> axes.split(jnp.ones((12, 64, 192))).shape
    (36, 64, 64)
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    blocks: int = 1

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The numbers of inputs and outputs of one matrix.

        Args:
            shape: the shape of the array.
        """
        inputs = math.prod(map(shape.__getitem__, self.inputs))
        outputs = math.prod(map(shape.__getitem__, self.outputs))
        return inputs, outputs // self.blocks

    def batch(self, shape: tuple[int, ...]) -> int:
        """The number of matrices in an array.

        Args:
            shape: the shape of the array.
        """
        return self.blocks * math.prod(
            shape[i] for i in self._order(len(shape))[: self._batch_rank(shape)]
        )

    def split(self, x: Leaf) -> Matrices:
        """Take an array apart into matrices `[batch, inputs, outputs]`.

        Args:
            x: the array.
        """
        order, batch = self._order(x.ndim), self.batch(x.shape)
        inputs, outputs = self.size(x.shape)
        split = batch // self.blocks, inputs, self.blocks, outputs
        matrices = jnp.transpose(x, order).reshape(split)
        return jnp.swapaxes(matrices, 1, 2).reshape(batch, inputs, outputs)

    def join(self, matrices: Matrices, shape: tuple[int, ...]) -> Leaf:
        """Put an array together from its matrices, which undoes `split`.

        Args:
            matrices: the matrices `[batch, inputs, outputs]`.
            shape: the shape of the array.
        """
        order = self._order(len(shape))
        inputs, outputs = self.size(shape)
        split = self.batch(shape) // self.blocks, self.blocks, inputs, outputs
        x = jnp.swapaxes(matrices.reshape(split), 1, 2)
        x = x.reshape([shape[i] for i in order])
        return jnp.transpose(x, sorted(range(len(shape)), key=order.__getitem__))

    def _batch_rank(self, shape: tuple[int, ...]) -> int:
        return len(shape) - len(self.inputs) - len(self.outputs)

    def _order(self, ndim: int) -> list[int]:
        matrix = [i % ndim for i in (*self.inputs, *self.outputs)]
        return [i for i in range(ndim) if i not in matrix] + matrix


MatrixAxes.__new__ = explained(MatrixAxes.__new__)  # pyright: ignore[reportAttributeAccessIssue]


class MatrixRule(Protocol):
    """A rule that says which axes of a leaf are its matrix, such as `hidden_matrices()`."""

    def axes(self, path: str, leaf: Any, /) -> MatrixAxes: ...


_PATTERNS = "embedding", "head", "vector", "convolution", "query", "output", "outputs_first"


class hidden_matrices(Rule):
    r"""This rule tells hidden matrices, which Muon trains, from all other leaves.

    `rule(path, leaf)` is the label "muon" or the label in `others`, `rule.why(path, leaf)` gives the
    reason, and `rule.axes(path, leaf)` says which axes are the matrix. Leaves with fewer than two axes
    are not hidden matrices, and neither are embeddings, output heads, norms and biases, which have
    typical names.

    The patterns are regular expressions that are searched in paths such as `layers/0/attention/kernel`,
    where upper and lower case are the same. If an output head has no typical name, such as the last of
    several layers in a list, name it: `hidden_matrices(exclude="layers/2/")`. `routing` shows where
    each leaf goes.

    Args:
        embedding: the pattern of embeddings.
        head: the pattern of output heads.
        vector: the pattern of norms, gains and biases, whatever their number of axes.
        convolution: the pattern of the kernels of convolutions. Without such a name, a kernel whose
            window has equal sides of 1, 3, 5 or 7 is taken for a convolution.
        query: the pattern of projections to heads. Of three axes or more, the last three are taken for
            `(d, heads, size)`.
        output: the pattern of projections from heads. Of three axes or more, the last three are taken
            for `(heads, size, d)`.
        outputs_first: the pattern of leaves whose outputs come before the inputs.
        blocks: the number of projections that are fused along the outputs, by pattern, such as
            `{"qkv": 3, "gate_up": 2}`. None means that every projection is separate.
        exclude: the pattern of further leaves that are not hidden matrices. None means no leaf.
        others: the label of all leaves that are not hidden matrices.

    Raises:
        ValueError: if a pattern is not a regular expression; and by `init`, if `exclude` or a pattern in
            `blocks` is found in the path of none of the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.hidden_matrices()
    >>> rule.why("layers/0/kernel", jnp.ones((4, 8))), rule.why("lm_head/kernel", jnp.ones((4, 8)))
    ((False, 'matrix 4 -> 8'), (True, 'head, by its name'))
    """

    embedding: str = EMBEDDING
    head: str = HEAD
    vector: str = VECTOR
    convolution: str = r"conv"
    query: str = r"(^|/)(query|key|value|q|k|v|[qkv]_?proj)/"
    output: str = r"(att|mha)\w*/(out|o|out_?proj|o_?proj)/"
    outputs_first: str = r"(^|/)weight$"
    blocks: Mapping[str, int] | None = None
    exclude: str | None = None
    others: str = "adamw"
    says_bools = False

    def validate(self) -> None:
        patterns = {name: getattr(self, name) for name in _PATTERNS}
        patterns |= {} if self.exclude is None else {"exclude": self.exclude}
        for name, pattern in [*patterns.items(), *(("blocks", p) for p in self.blocks or ())]:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`hidden_matrices({name}=...)` must be a regular expression, not "
                    f"{described(pattern)} ({error}). The pattern `(?!)` matches no name."
                ) from None

    def check_paths(self, paths: Sequence[str]) -> None:
        for pattern in [*([] if self.exclude is None else [self.exclude]), *(self.blocks or ())]:
            if not has_pattern(pattern, paths):
                raise unmatched("hidden_matrices", pattern, paths, "leave it out")

    def __call__(self, path: str, leaf: Any) -> str:
        return self.others if self.why(path, leaf)[0] else "muon"

    def why(self, path: str, leaf: Any) -> tuple[bool, str]:
        """Whether a leaf is not a hidden matrix, and the reason in words.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.
        """
        if len(leaf.shape) < 2:
            return True, ("scalar" if not leaf.shape else "vector")
        if self.exclude is not None and found(self.exclude, path):
            return True, "excluded, by its name"
        for name in ("embedding", "head", "vector"):
            if found(getattr(self, name), path):
                return True, {"vector": "norm, gain or bias"}.get(name, name) + ", by its name"
        axes = self.axes(path, leaf)
        if min(axes.size(leaf.shape)) < 2 and math.prod(leaf.shape) > 0:
            return True, "vector, by its shape"
        kind = "convolution" if self._convolves(path, leaf.shape) else "matrix"
        inputs, outputs = axes.size(leaf.shape)
        batch = axes.batch(leaf.shape)
        return False, f"{kind} {inputs} -> {outputs}" + (f", {batch} of them" if batch > 1 else "")

    def _convolves(self, path: str, shape: tuple[int, ...]) -> bool:
        """Whether a leaf is the kernel of a convolution, by its name or by the shape of its window.

        The layers in a list do not have names, so the shape has to do.
        """
        if found(self.convolution, path):
            return len(shape) > 2
        window = shape[2:] if found(self.outputs_first, path) else shape[:-2]
        # A batch of stacked layers and experts seldom has two axes of equal, odd and small length.
        return len(window) > 1 and len({*window}) == 1 and window[0] in (1, 3, 5, 7)

    def axes(self, path: str, leaf: Any) -> MatrixAxes:
        """Which axes of a leaf are the inputs and the outputs of its matrix.

        Args:
            path: the path of the leaf, such as `layers/0/attention/kernel`.
            leaf: an array, or whatever else has a shape.

        Raises:
            ValueError: if the leaf has fewer than two axes.
        """
        ndim = len(leaf.shape)
        if ndim < 2:
            raise ValueError(
                f"`{path or '.'}` of shape {leaf.shape} is not a matrix; wrap the transformation in "
                "`masked(..., by_rank(2))`."
            )
        blocks = next((n for p, n in (self.blocks or {}).items() if found(p, path)), 1)
        first = found(self.outputs_first, path)
        if ndim > 2 and not first and found(self.query, path):
            return MatrixAxes((ndim - 3,), (ndim - 2, ndim - 1), blocks)
        if ndim > 2 and not first and found(self.output, path):
            return MatrixAxes((ndim - 3, ndim - 2), (ndim - 1,), blocks)
        if self._convolves(path, leaf.shape):
            rest = tuple(range(1, ndim)) if first else tuple(range(ndim - 1))
            return MatrixAxes(rest, (0 if first else ndim - 1,), blocks)
        inputs, outputs = (ndim - 1, ndim - 2) if first else (ndim - 2, ndim - 1)
        return MatrixAxes((inputs,), (outputs,), blocks)

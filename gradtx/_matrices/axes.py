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
from typing import Any, Protocol

from gradtx._compose.by import is_count
from gradtx._compose.patterns import EMBEDDING, HEAD, VECTOR, found, has_pattern, unmatched
from gradtx._compose.rules import Rule
from gradtx._core.authors import described
from gradtx._matrices.matrix_axes import MatrixAxes as MatrixAxes


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
    several layers in a list, name it: `hidden_matrices(exclude="layers/2")`. `routing` shows where
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
        blocks: how many projections are fused along the outputs, by pattern, such as
            `{"qkv": 3, "gate_up": 2}`. Projections of unequal size are given by their ratio:
            `{"qkv": (4, 1, 1)}` for the queries, keys and values of attention in which four query heads
            share one key head. None means that every projection is separate.
        exclude: the pattern of further leaves that are not hidden matrices. It must match whole parts of
            the path: "layers/2" is not found in `layers/20/kernel`. None means no further leaf.
        others: the label of all leaves that are not hidden matrices.

    Raises:
        ValueError: if a pattern is not a regular expression; and by `init`, if `exclude` or a pattern in
            `blocks` is found in the path of none of the parameters, or if outputs cannot be divided so.

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
    blocks: Mapping[str, int | tuple[int, ...]] | None = None
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

        for name, blocks in (self.blocks or {}).items():
            several = blocks if isinstance(blocks, tuple) else (blocks,)
            if not several or not all(is_count(n, 1) for n in several):
                raise ValueError(
                    f"`hidden_matrices(blocks={{{name!r}: {blocks!r}}})` must be a whole number, 1 or "
                    "more, or a tuple of such numbers, such as (4, 1, 1)."
                )

    def check_paths(self, paths: Sequence[str]) -> None:
        for pattern in (self.exclude, *(self.blocks or ())):
            if pattern is not None and not has_pattern(pattern, paths, pattern == self.exclude):
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
        if self.exclude is not None and found(self.exclude, path, whole=True):
            return True, "excluded, by its name"
        for name in ("embedding", "head", "vector"):
            if found(getattr(self, name), path):
                return True, {"vector": "norm, gain or bias"}.get(name, name) + ", by its name"
        axes = self.axes(path, leaf)
        sizes = axes.sizes(leaf.shape)
        inputs, outputs = sizes[0][0], " + ".join(str(size[1]) for size in sizes)
        if min(min(size) for size in sizes) < 2 and math.prod(leaf.shape) > 0:
            return True, "vector, by its shape"
        kind = "convolution" if self._convolves(path, leaf.shape) else "matrix"
        batch = axes.batch(leaf.shape) // len(sizes)
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
            ValueError: if the leaf has fewer than two axes, or if its outputs cannot be divided into
                `blocks`.
        """
        ndim = len(leaf.shape)
        if ndim < 2:
            raise ValueError(
                f"`{path or '.'}` of shape {leaf.shape} is not a matrix; wrap the transformation in "
                "`masked(..., by_rank(2))`."
            )
        axes = self._axes(path, leaf)
        blocks = 1
        if self.blocks:
            blocks = next((n for p, n in self.blocks.items() if found(p, path)), 1)
        outputs = math.prod(map(leaf.shape.__getitem__, axes.outputs))
        if outputs % (sum(blocks) if isinstance(blocks, tuple) else blocks):
            raise ValueError(
                f"`{path or '.'}` of shape {leaf.shape} has {outputs} outputs, which cannot be divided "
                f"as `hidden_matrices(blocks=...)` says, {blocks}."
            )
        return axes._replace(blocks=blocks)

    def _axes(self, path: str, leaf: Any) -> MatrixAxes:
        ndim = len(leaf.shape)
        first = found(self.outputs_first, path)
        if ndim > 2 and not first and found(self.query, path):
            return MatrixAxes((ndim - 3,), (ndim - 2, ndim - 1))
        if ndim > 2 and not first and found(self.output, path):
            return MatrixAxes((ndim - 3, ndim - 2), (ndim - 1,))
        if self._convolves(path, leaf.shape):
            rest = tuple(range(1, ndim)) if first else tuple(range(ndim - 1))
            return MatrixAxes(rest, (0 if first else ndim - 1,))
        inputs, outputs = (ndim - 1, ndim - 2) if first else (ndim - 2, ndim - 1)
        return MatrixAxes((inputs,), (outputs,))

"""Which axes of a parameter are its matrix, and which parameters are hidden matrices at all.

Names decide what shapes leave open. `kernel` and `w` (Flax, Haiku) map inputs to outputs, `weight`
(Equinox, torch) has the outputs first; convolutions are flattened to one matrix of (height x width x
inputs, outputs); the projections of attention have their heads as axes. All other axes are a batch:
stacked layers, experts.
"""

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.values import Value


class MatrixAxes(NamedTuple):
    """The axes that make up the input and the output side; the others are a batch.

    `blocks` is the number of equal parts along the outputs that are matrices of their own.

    >>> import gradtx, jax.numpy as jnp
    >>> axes = gradtx.MatrixAxes(inputs=(1,), outputs=(2,), blocks=3)  # stacked layers of fused QKV
    >>> axes.split(jnp.ones((12, 64, 192))).shape
    (36, 64, 64)
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    blocks: int = 1

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Inputs and outputs of one matrix."""
        inputs = math.prod(map(shape.__getitem__, self.inputs))
        outputs = math.prod(map(shape.__getitem__, self.outputs))
        return inputs, outputs // self.blocks

    def batch(self, shape: tuple[int, ...]) -> int:
        """The number of matrices."""
        return self.blocks * math.prod(
            shape[i] for i in self._order(len(shape))[: self._rest(shape)]
        )

    def split(self, x: jax.Array) -> jax.Array:
        """`x` as matrices `[batch, inputs, outputs]`."""
        order, batch = self._order(x.ndim), self.batch(x.shape)
        inputs, outputs = self.size(x.shape)
        split = batch // self.blocks, inputs, self.blocks, outputs
        matrices = jnp.transpose(x, order).reshape(split)
        return jnp.swapaxes(matrices, 1, 2).reshape(batch, inputs, outputs)

    def join(self, matrices: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """The array of this shape that `split` took apart."""
        order = self._order(len(shape))
        inputs, outputs = self.size(shape)
        split = self.batch(shape) // self.blocks, self.blocks, inputs, outputs
        x = jnp.swapaxes(matrices.reshape(split), 1, 2)
        x = x.reshape([shape[i] for i in order])
        return jnp.transpose(x, sorted(range(len(shape)), key=order.__getitem__))

    def _rest(self, shape: tuple[int, ...]) -> int:
        return len(shape) - len(self.inputs) - len(self.outputs)

    def _order(self, ndim: int) -> list[int]:
        matrix = [i % ndim for i in (*self.inputs, *self.outputs)]
        return [i for i in range(ndim) if i not in matrix] + matrix


class hidden_matrices(Value):
    r"""The rule of Muon: hidden weights are matrices, all else is not.

    As a rule, `rule(path, leaf)` is the label "muon" or "adamw"; `why` gives the reason, `axes` the
    matrix. Leaves out: fewer than two axes, and names (regular expressions, searched in paths like
    `layers/0/attention/kernel`, upper and lower case alike) of embeddings, heads, norms and biases.
    Add to a field rather than replace it: `hidden_matrices(head=hidden_matrices().head + "|^fc3/")`.

    Args:
        embedding, head, vector: patterns of what is left out.
        convolution, query, output: patterns of kernels with more axes than a matrix: convolutions
            (where names say nothing, a window of equal sides of 1, 3, 5 or 7 shows them);
            projections to heads, `(d, heads, size)`; the projection back, `(heads, size, d)`.
        outputs_first: pattern of the last name where outputs come before inputs.
        blocks: pattern -> number of parts of a fused projection, `{"qkv": 3, "gate_up": 2}`.

    >>> import gradtx, jax.numpy as jnp
    >>> rule = gradtx.hidden_matrices()
    >>> rule.why("layers/0/kernel", jnp.ones((4, 8))), rule.why("lm_head/kernel", jnp.ones((4, 8)))
    ((False, 'matrix 4 -> 8'), (True, 'head, by its name'))
    """

    embedding: str = (
        r"embed|(^|[/_])emb(s|eddings?)?(/|$)|(^|/)(wte|wpe|tok(en)?s?|pos(ition)?s?|codebook)(/|$)"
    )
    head: str = (
        r"(^|/)(\w*lm_?head|head|cls_?head|\w*logits\w*|unembed\w*|classifier|readout)(/|$)"
        r"|^(output\w*|fc_out|proj_out)/"
    )
    vector: str = (
        r"(^|/)(\w*norm(_?\d+|_\w)?|ln(_?\w)?|bn_?\d*)(/|$)"
        r"|(^|[/_])(bias|scale|gain|offset)$|(^|/)b$"
    )
    convolution: str = r"conv"
    query: str = r"(^|/)(query|key|value|q|k|v|[qkv]_?proj)/"
    output: str = r"(att|mha)\w*/(out|o|out_?proj|o_?proj)/"
    outputs_first: str = r"(^|/)weight$"
    blocks: Any = None

    def __call__(self, path: str, leaf: Any) -> str:
        return "adamw" if self.why(path, leaf)[0] else "muon"

    def why(self, path: str, leaf: Any) -> tuple[bool, str]:
        """Whether the leaf is left out, and the reason in words."""
        if len(leaf.shape) < 2:
            return True, ("scalar" if not leaf.shape else "vector")
        for name in ("embedding", "head", "vector"):
            if _found(getattr(self, name), path):
                return True, {"vector": "norm, gain or bias"}.get(name, name) + ", by its name"
        axes = self.axes(path, leaf)
        if min(axes.size(leaf.shape)) < 2 and math.prod(leaf.shape) > 0:
            return True, "vector, by its shape"
        kind = "convolution" if self._convolves(path, leaf.shape) else "matrix"
        inputs, outputs = axes.size(leaf.shape)
        batch = axes.batch(leaf.shape)
        return False, f"{kind} {inputs} -> {outputs}" + (f", {batch} of them" if batch > 1 else "")

    def _convolves(self, path: str, shape: tuple[int, ...]) -> bool:
        """By its name, or by its window, since lists of layers have no names."""
        if _found(self.convolution, path):
            return len(shape) > 2
        window = shape[2:] if _found(self.outputs_first, path) else shape[:-2]
        # Stacks of stacks (layers, experts) seldom have two equal, odd and small numbers.
        return len(window) > 1 and len({*window}) == 1 and window[0] in (1, 3, 5, 7)

    def axes(self, path: str, leaf: Any) -> MatrixAxes:
        """The matrix of a leaf with at least two axes. Raises `ValueError` for fewer."""
        ndim = len(leaf.shape)
        if ndim < 2:
            raise ValueError(
                f"`{path or '.'}` of shape {leaf.shape} is not a matrix; wrap the transformation in "
                "`masked(..., by_rank(2))`."
            )
        blocks = next((n for p, n in (self.blocks or {}).items() if _found(p, path)), 1)
        first = _found(self.outputs_first, path)
        if ndim > 2 and not first and _found(self.query, path):
            return MatrixAxes((ndim - 3,), (ndim - 2, ndim - 1), blocks)
        if ndim > 2 and not first and _found(self.output, path):
            return MatrixAxes((ndim - 3, ndim - 2), (ndim - 1,), blocks)
        if self._convolves(path, leaf.shape):
            rest = tuple(range(1, ndim)) if first else tuple(range(ndim - 1))
            return MatrixAxes(rest, (0 if first else ndim - 1,), blocks)
        inputs, outputs = (ndim - 1, ndim - 2) if first else (ndim - 2, ndim - 1)
        return MatrixAxes((inputs,), (outputs,), blocks)


def _found(pattern: str, path: str) -> bool:
    return re.search(pattern, path, re.IGNORECASE) is not None

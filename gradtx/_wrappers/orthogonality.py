"""How far the updates of matrices are from orthogonal, which is what Muon makes them."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.authors import described
from gradtx._core.measure import Measure
from gradtx._core.numerics import abs_square, nonzero_or_one
from gradtx._core.shapes import Leaf, Matrices
from gradtx._core.sharding import replicated
from gradtx._matrices.axes import MatrixAxes, MatrixRule, hidden_matrices
from gradtx._matrices.shards import refuse_part


class orthogonality_error(Measure):
    r"""How unequal the singular values of hidden matrices are, 0 for a multiple of an orthogonal matrix.

    $$ e = \frac{1}{\sqrt n} \left\| \frac{n\, U^\top U}{\operatorname{tr} U^\top U} - I \right\|_F
         = \frac{\operatorname{std} \sigma^2}{\operatorname{mean} \sigma^2} $$

    $n$ is the smaller side of the matrix $U$, and $\sigma$ are its $n$ singular values. A factor of the
    whole matrix, such as a learning rate, does not matter. Over several matrices, the reading is the
    root mean square of their errors. A matrix of zeros has the error 0. The products take as long as one
    step of Newton and Schulz's iteration.

    Args:
        axes: the rule that says which leaves are hidden matrices and which axes are the matrix. Other
            leaves are left out.
        per: what one reading covers: "tree", "layer", "leaf" or a depth, as for `Measure`.

    Inside `shard_map`, a matrix that is sharded is measured shard by shard.

    Raises:
        ValueError: if `per` is something else.
        TypeError: if `axes` is not a rule for matrices.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.tap("update", gradtx.orthogonality_error())
    >>> g = {"kernel": jnp.array([[3.0, 0.0], [0.0, -3.0]])}
    >>> float(gradtx.readings(tx.update(g, tx.init(g))[1])["update/orthogonality_error"])
    0.0
    """

    axes: MatrixRule = hidden_matrices()

    def validate(self) -> None:
        if not hasattr(self.axes, "axes") or not hasattr(self.axes, "why"):
            raise TypeError(
                "`orthogonality_error(axes=...)` must be a rule for matrices, such as "
                f"`hidden_matrices()`, not {described(self.axes)}."
            )

    def at_leaf(self, path: str, leaf: Any) -> Measure | None:
        rule: Any = self.axes
        if rule.why(path, leaf)[0] or 0 in leaf.shape:
            return None
        try:
            refuse_part(rule, path, leaf)
        except ValueError as error:
            raise ValueError(f"`orthogonality_error`: {error}") from None
        return _in_axes(rule.axes(path, leaf))

    def value(self, *sums: jax.Array) -> jax.Array:
        total, count = sums
        return jnp.sqrt(total / jnp.maximum(count, 1))


class _in_axes(Measure):
    """The summands of `orthogonality_error` for a leaf with its matrix in these axes."""

    axes: Any = None

    def entries(self, update: Leaf, param: Any, gradient: Any) -> Any:
        axes: MatrixAxes = self.axes
        parts = axes.split_parts(replicated(update)[0])
        squared = jnp.concatenate(list(map(_errors_squared, parts)))
        return jnp.sum(squared), jnp.full((), squared.size, squared.dtype)


def _errors_squared(x: Matrices) -> jax.Array:
    """The square of the error of every matrix, shape [batch]."""
    x = jnp.swapaxes(x, 1, 2) if x.shape[1] < x.shape[2] else x
    n = x.shape[2]
    # The largest entry becomes 1, so that no square overflows or vanishes.
    largest = nonzero_or_one(
        jnp.max(jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)), (1, 2), keepdims=True)
    )
    x = x / largest.astype(x.dtype)
    gram = jnp.einsum("bik,bij->bkj", x.conj(), x, precision="highest")
    trace = jnp.trace(gram, axis1=1, axis2=2).real[:, None, None]
    zero = trace == 0
    mean = jnp.where(zero, jnp.ones_like(trace), trace / n)
    one = jnp.where(zero, jnp.zeros_like(trace), jnp.ones_like(trace))
    error = gram / mean.astype(gram.dtype) - (one * jnp.eye(n, dtype=trace.dtype)[None]).astype(
        gram.dtype
    )
    return jnp.sum(abs_square(error), (1, 2)) / n

"""Scaling by factors that are found in another basis."""

from typing import Any, Literal

import jax.numpy as jnp

from gradtx._bases.in_basis import in_basis
from gradtx._core.latex import Page, Tex, escape, fraction, times
from gradtx._core.numerics import nonzero_or_one, placed_like, sqrt, unit_of
from gradtx._core.sharding import replicated


class scale_in_basis(in_basis):
    r"""Scale every channel of a gradient as much as another transformation scales it in a basis.

    $$ u_j = s_j\, g_j, \qquad s_j = \frac{\|f(B g)_j\|}{\|(B g)_j\|} $$

    where $f$ is `inner`, and $j$ is a channel: one entry of the side of a
    matrix that is not projected, or of the longer side. With
    `per="matrix"` there is one factor per matrix. The gradient keeps its direction in every channel, so
    that a basis of low rank does not restrict the step. Where $B g$ is 0, so is the update.

    Args:
        basis: the change of basis, such as `low_rank(128, method="random")`.
        inner: the transformation $f$, of gradtx or of Optax.
        signal: a transformation of the gradient, as in `in_basis`. It is scaled in place of $g$.
        on_refresh: what happens to the state of `inner` when the basis changes, as in `in_basis`.
        axes: the rule that says which axes of a leaf are its matrix.
        per: "channel" or "matrix".

    The state is `InBasisState(count, basis, signal, inner)`.

    Raises:
        TypeError: if an argument has a wrong type, as in `in_basis`.
        ValueError: if a leaf has fewer than two axes, or a word is unknown.

    Source: Zhu et al., 2024, arXiv:2412.05270, algorithm 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.scale_in_basis(gradtx.fixed_basis(), gradtx.scale(2.0))
    >>> w = jnp.array([[3.0, 0.0], [4.0, 0.0]])
    >>> tx.update(w, tx.init(w))[0]
    Array([[6., 0.],
           [8., 0.]], dtype=float32)
    """

    per: Literal["channel", "matrix"] = "channel"

    def returned(self, step: Any, out: list[Any], inside: list[Any], given: list[Any]) -> list[Any]:
        rows = zip(step.leaves, out, inside, given, strict=True)
        return [
            None if leaf is None or y is None else self._scaled(leaf.axes, y, x, g)
            for leaf, y, x, g in rows
        ]

    def _scaled(self, axes: Any, out: Any, inside: Any, given: Any) -> Any:
        """The signal of a leaf, with every channel scaled as `inner` scaled it in the basis."""
        parts = []
        wide, back = replicated(given.astype(out.dtype))
        arrays = wide, replicated(out)[0], replicated(inside)[0]
        rows = zip(*map(axes.split_parts, arrays), strict=True)
        for x, new, old in rows:
            axis = _across(x.shape, old.shape) if self.per == "channel" else (-2, -1)
            size = _norm(old, axis)
            factor = jnp.where(size > 0, _norm(new, axis) / nonzero_or_one(size), 0 * size)
            parts.append(x * factor.astype(x.dtype))
        return placed_like(back(axes.join_parts(parts, given.shape)), given)

    def tex(self, g: Tex, page: Page) -> Tex:
        signal = page.symbol(self.signal.tex(g, page))
        words = r"\text{: the change to the basis of a matrix, of the kind }"
        page.notes.setdefault("B", words + rf"\mathrm{{{escape(type(self.basis).__name__)}}}")
        inside = page.define("x", lambda _: times(Tex("B"), signal))
        out, what = self.inner.tex(inside, page), f"one {self.per} of a matrix"
        norms = [
            page.norm(x, rf"_{{\mathrm{{{self.per}}}}}", rf"\text{{: the norm of {what}}}")
            for x in (out, inside)
        ]
        return times(fraction(*norms), signal)


def _across(shape: tuple[int, ...], projected: tuple[int, ...]) -> int:
    """The axis over which the norm of a channel is taken: the one that is projected.

    A basis without a projection gives the channels of the longer side. Of two sides of equal length,
    `low_rank` takes the outputs for the shorter one.
    """
    changed = [axis for axis in (-2, -1) if shape[axis] != projected[axis]]
    return changed[0] if len(changed) == 1 else (-2 if shape[-2] < shape[-1] else -1)


def _norm(x: Any, axis: Any) -> Any:
    largest = unit_of(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0))
    unit = jnp.abs(x) / largest
    return largest * sqrt(jnp.sum(jnp.square(unit), axis=axis, keepdims=True))

"""Whitening by inverse roots of the Gram matrices of the gradients."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._bases.basis import Basis, Now
from gradtx._bases.linear_algebra import Square, inverse_power, scaled
from gradtx._bases.sides import Side, applied, check_counts, grams, squares, turned
from gradtx._core.numerics import average
from gradtx._core.shapes import InBasis, Matrices, Shapes
from gradtx._core.values import Hyper


class WhiteningState(NamedTuple):
    """The state of `whitening`, where a side that is not whitened has arrays without entries.

    Attributes:
        left: the average or the sum of $G G^H$, of shape `[batch, in, in]`.
        right: the average or the sum of $G^H G$, of shape `[batch, out, out]`.
        root_left: the factor of the inputs, $L^{-p/2}$.
        root_right: the factor of the outputs, $R^{-p/2}$.
    """

    left: Annotated[jax.Array, "batch _ _"]
    right: Annotated[jax.Array, "batch _ _"]
    root_left: Annotated[jax.Array, "batch _ _"]
    root_right: Annotated[jax.Array, "batch _ _"]


class whitening(Basis):
    r"""The gradients are whitened by inverse roots of their Gram matrices.

    $$ B g = L^{-p/2}\, g\, R^{-p/2}, \qquad B^H B\, g = L^{-p}\, g\, R^{-p}, \qquad
       L_t = b L_{t-1} + (1 - b)\, G_t G_t^H, \quad R_t = b R_{t-1} + (1 - b)\, G_t^H G_t $$

    With `decay=1`, $L$ and $R$ are sums: $L_t = L_{t-1} + G_t G_t^H$. A gradient is learned before the
    step with it. `in_basis(whitening(), identity())` applies $B^H B$ to the gradient.

    Args:
        decay: $b$, in [0, 1], where 1 means a sum.
        every: the number of steps from one pair of roots to the next.
        power: $p > 0$. None means 1/4 where both sides are whitened, and 1/2 for a single side, so that
            the size of the gradients drops out.
        eps: $\epsilon \ge 0$, which is added to $L$ and $R$, times the identity, before roots are
            taken. With 0, directions in which all gradients were 0 up to rounding get the factor 0.
        relative: whether $\epsilon$ counts in units of the largest entry of $L$ or $R$.
        side: which sides of a matrix are whitened: "both", the "shorter" or the "longer" one, the
            "inputs" or the "outputs".
        max_size: the longest side that is whitened. None accepts every length.

    The state is `WhiteningState(left, right, root_left, root_right)`. In a refresh, the state of the
    transformation inside keeps its numbers.

    Raises:
        ValueError: if a number lies outside its interval, or `side` is unknown.

    Sources: Gupta, Koren & Singer, 2018, arXiv:1802.09568, algorithm 1; Shi et al., 2023,
    arXiv:2309.06497.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.in_basis(gradtx.whitening(1.0), gradtx.identity())
    >>> w = jnp.array([[3.0, 0.0], [0.0, -4.0]])
    >>> jnp.round(tx.update(w, tx.init(w))[0], 3)  # of a single gradient, it is the polar factor
    Array([[ 1.,  0.],
           [ 0., -1.]], dtype=float32)
    """

    decay: Hyper = 0.95
    every: int = 1
    power: Hyper | None = None
    eps: Hyper = 1e-12
    relative: bool = False
    side: Side = "both"
    max_size: int | None = 8192
    limits = {"decay": "[0, 1]", "power": "(0, inf)", "eps": "[0, inf)"}

    def validate(self) -> None:
        check_counts(self)

    def init_matrix(self, x: Shapes) -> WhiteningState:
        return WhiteningState(*squares(self, x), *squares(self, x, eye=True))

    def into(self, x: Matrices, state: WhiteningState) -> Matrices:
        return applied(state.root_left, x, state.root_right)

    def back(self, y: Matrices, state: WhiteningState) -> Matrices:
        return applied(state.root_left, y, state.root_right)  # the roots are Hermitian

    def learn(self, x: Matrices, state: WhiteningState, now: Now) -> WhiteningState:
        new = {}
        for name, gram in zip(("left", "right"), grams(x), strict=True):
            old = getattr(state, name)
            if old.shape[-1]:
                total = self._added(old, gram)
                # A sum of squares of the largest gradients may overflow; such a step is not learned.
                spoiled = jnp.isinf(total).any((-2, -1), keepdims=True)
                new[name] = jnp.where(spoiled, old, total)
        return state._replace(**new)

    def _added(self, old: Square, gram: Square) -> Square:
        if isinstance(self.decay, float):
            return old + gram if self.decay == 1 else average(old, gram, self.decay)
        return jnp.where(self.decay == 1, old + gram, average(old, gram, self.decay))

    def refresh(self, x: Matrices, state: WhiteningState, now: Now) -> WhiteningState:
        sides = sum(turned(self, *x.shape[-2:]))
        power = 1 / (2 * max(sides, 1)) if self.power is None else self.power
        left, right = (self._root(gram, power) for gram in (state.left, state.right))
        return state._replace(root_left=left, root_right=right)

    def _root(self, gram: Square, power: Any) -> Square:
        if not gram.shape[-1]:
            return gram
        largest = scaled(gram)[1][..., 0]
        half = jnp.asarray(power / 2, largest.dtype)
        ridge = jnp.asarray(self.eps, largest.dtype)
        ridge = ridge * largest if self.relative else jnp.broadcast_to(ridge, largest.shape)
        return inverse_power(gram, half, ridge)

    def carry(self, y: InBasis, degree: int, old: Any, new: Any) -> InBasis:
        return y

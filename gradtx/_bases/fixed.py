"""A basis of the user's own: a rotation, a permutation, or any other pair of matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._bases.basis import Basis
from gradtx._bases.linear_algebra import adjoint, matmul
from gradtx._core.authors import described
from gradtx._core.shapes import InBasis, Matrices


class fixed_basis(Basis):
    r"""A basis that is given by one or two matrices, and never changes.

    $$ B g = P\, g\, S^H, \qquad B^H y = P^H y\, S $$

    for a matrix $g$ of shape `[in, out]`. With two orthogonal matrices this is a rotation or a
    permutation, such as a Hadamard or a cosine transform. `fixed_basis()` is the identity.

    Args:
        inputs: $P$, of shape `[k, in]`, whose rows are the vectors of the basis. None means the
            identity.
        outputs: $S$, of shape `[k, out]`. None means the identity.

    A transformation inside that needs the parameters gets $P\, \theta\, S^H$ if both matrices are square
    and orthogonal. Otherwise `in_basis` refuses it, and also where a matrix is an argument of a function
    under `jit`, `vmap` or `grad`, so that its entries are not known.

    Raises:
        ValueError: if `inputs` or `outputs` is not a matrix, or does not fit the matrices of a leaf.

    >>> import gradtx, jax.numpy as jnp
    >>> turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> twice_the_first = gradtx.identity() * jnp.array([[2.0], [1.0]])
    >>> tx = gradtx.in_basis(gradtx.fixed_basis(inputs=turn), twice_the_first)
    >>> w = jnp.array([[3.0], [4.0]])
    >>> tx.update(w, tx.init(w))[0]  # in the basis it is [[4], [-3]], and then [[8], [-3]]
    Array([[3.],
           [8.]], dtype=float32)
    """

    inputs: jax.Array | np.ndarray | None = None
    outputs: jax.Array | np.ndarray | None = None

    def validate(self) -> None:
        for name in ("inputs", "outputs"):
            x = getattr(self, name)
            if x is not None and getattr(x, "ndim", 0) not in (2, 3):
                raise ValueError(
                    f"`fixed_basis({name}=...)` must be a matrix, an array with two axes, not "
                    f"{described(x)}."
                )

    @property
    def rotation(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether both matrices are known to be orthogonal."""
        known = self.__dict__.get("_rotation")
        if known is None:
            known = _is_orthogonal(self.inputs) and _is_orthogonal(self.outputs)
            self.__dict__["_rotation"] = known
        return known

    def size(self, inputs: int, outputs: int) -> tuple[int, int]:
        sizes = []
        for name, n in (("inputs", inputs), ("outputs", outputs)):
            x: Any = getattr(self, name)
            if getattr(x, "ndim", 0) == 2 and x.shape[1] != n:
                raise ValueError(
                    f"`fixed_basis({name}=...)` is a matrix of shape {tuple(x.shape)}, and a matrix of "
                    f"this leaf has {n} {name}."
                )
            sizes.append(x.shape[0] if getattr(x, "ndim", 0) == 2 else n)
        return sizes[0], sizes[1]

    def into(self, x: Matrices, state: Any) -> Any:
        p, s = self._matrices(x)
        x = x if p is None else matmul(p, x)
        return x if s is None else matmul(x, adjoint(s))

    def back(self, y: InBasis, state: Any) -> Matrices:
        p, s = self._matrices(y)
        y = y if p is None else matmul(adjoint(p), y)
        return y if s is None else matmul(y, s)

    def _matrices(self, x: Any) -> list[Any]:
        known = (self.inputs, self.outputs)
        return [None if m is None else jnp.asarray(m).astype(x.dtype)[None] for m in known]


def _is_orthogonal(x: Any) -> bool:
    if x is None:
        return True
    is_known = not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)
    if not is_known or x.shape[0] != x.shape[1]:
        return False
    own = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else np.dtype("float64")
    wide = np.asarray(x).astype("complex128" if jnp.iscomplexobj(x) else "float64")
    error = np.abs(wide @ wide.conj().T - np.eye(len(wide))).max(initial=0)
    return bool(error <= float(jnp.finfo(own).eps) ** 0.5)  # for entries rounded in their dtype

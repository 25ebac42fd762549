"""A basis for the blocks of large matrices."""

import itertools
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from gradtx._bases.basis import Basis, Now, check_basis, seeds_of_matrices
from gradtx._core.random_bits import mixed
from gradtx._core.shapes import Matrices, Scalar, Shapes

# A stack of blocks: `[blocks, height, width]`.
Blocks = Annotated[jax.Array, "_ _ _"]


class blocked(Basis):
    r"""Every matrix is cut into blocks, and each block has a basis of its own.

    The statistics of a matrix of 8192 by 8192 entries take as much memory as two such matrices, and
    decompositions of them take long. In blocks of 1024 they take an eighth of the memory. At the ends of
    both sides, the blocks are smaller if `block` does not divide the side.

    Args:
        basis: the basis of the blocks. It must keep the sizes of matrices.
        block: the largest number of inputs and of outputs of a block, 1 or more.

    The state is a tuple with a state of `basis` for each of four kinds of blocks: those of full size,
    those at the end of the outputs, those at the end of the inputs, and the last one.

    Raises:
        TypeError: if `basis` is not a basis.
        ValueError: if `block` is less than 1, or if `basis` changes the sizes of matrices.

    Source: Anil et al., 2020, arXiv:2002.09018, section 4.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.in_basis(gradtx.blocked(gradtx.whitening(), 2), gradtx.identity())
    >>> state = tx.init(jnp.zeros((4, 5)))
    >>> [kind.left.shape for kind in state.basis]
    [(4, 2, 2), (2, 2, 2), (0, 1, 1), (0, 1, 1)]
    """

    basis: Basis
    block: int = 1024

    def validate(self) -> None:
        check_basis(self, "basis")
        if self.block < 1:
            raise ValueError(f"`blocked(block={self.block})` must be a whole number, 1 or more.")
        if self.basis.size(self.block, self.block + 1) != (self.block, self.block + 1):
            raise ValueError(
                f"`blocked(basis={type(self.basis).__name__}(...))` needs a basis that keeps the sizes "
                "of matrices."
            )

    @property
    def learns_first(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.basis.learns_first

    @property
    def rotation(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.basis.rotation

    @property
    def skips_first(self) -> bool:
        return self.basis.skips_first

    def _kinds(self, m: int, n: int) -> list[tuple[slice, slice, int, int]]:
        """The rows, the columns, and the height and the width of a block, for each kind of blocks."""
        sides = []
        for length in (m, n):
            rest = length % self.block
            full = slice(0, length - rest), self.block
            sides.append([full, (slice(length - rest, length), max(rest, 1))])
        return [(a, b, h, w) for (a, h), (b, w) in itertools.product(*sides)]

    def _split(self, x: Matrices) -> list[Blocks]:
        """The stacks of the four kinds of blocks, some of which may be empty."""
        out = []
        for rows, columns, height, width in self._kinds(*x.shape[1:]):
            part = x[:, rows, columns]
            down, across = part.shape[1] // height, part.shape[2] // width
            part = part.reshape(len(x), down, height, across, width)
            out.append(jnp.swapaxes(part, 2, 3).reshape(len(x) * down * across, height, width))
        return out

    def _join(self, parts: list[Blocks], shape: tuple[int, ...]) -> Matrices:
        batch, whole = shape[0], []
        for part, (rows, columns, h, w) in zip(parts, self._kinds(*shape[1:]), strict=True):
            m, n = rows.stop - rows.start, columns.stop - columns.start
            blocks = part.reshape(batch, m // h, n // w, h, w)
            whole.append(jnp.swapaxes(blocks, 2, 3).reshape(batch, m, n))
        return jnp.concatenate([jnp.concatenate(whole[k : k + 2], 2) for k in (0, 2)], 1)

    def init_matrix(self, x: Shapes) -> Any:
        shapes = jax.eval_shape(self._split, jax.ShapeDtypeStruct(x.shape, x.dtype))
        return tuple(self.basis.init_matrix(part) for part in shapes)

    def _each(self, f: Any, x: Matrices, *rest: Any) -> list[Blocks]:
        rows = zip(self._split(x), *rest, strict=True)
        return [f(part, *more) if part.size else part for part, *more in rows]

    def into(self, x: Matrices, state: Any) -> Matrices:
        return self._join(self._each(self.basis.into, x, state), x.shape)

    def back(self, y: Matrices, state: Any) -> Matrices:
        return self._join(self._each(self.basis.back, y, state), y.shape)

    def _taught(self, f: Any, x: Matrices, state: Any, now: Now) -> Any:
        rows = zip(self._split(x), state, strict=True)
        return tuple(f(part, own, self._now(part, now)) if part.size else own for part, own in rows)

    def _now(self, part: Blocks, now: Any) -> Any:
        """What the basis of these blocks is told, with a seed for every block."""
        per = len(part) // len(now.seeds)
        seeds = jax.vmap(lambda seed: seeds_of_matrices(mixed(seed), per))(now.seeds)
        return now._replace(seeds=seeds.reshape(-1))

    def learn(self, x: Matrices, state: Any, now: Now) -> Any:
        return self._taught(self.basis.learn, x, state, now)

    def refresh(self, x: Matrices, state: Any, now: Now) -> Any:
        return self._taught(self.basis.refresh, x, state, now)

    def due(self, step: Scalar) -> Any:
        return self.basis.due(step)

    def carry(self, y: Matrices, degree: int, old: Any, new: Any) -> Matrices:
        def one(part: Any, a: Any, b: Any) -> Any:
            return self.basis.carry(part, degree, a, b)

        return self._join(self._each(one, y, old, new), y.shape)

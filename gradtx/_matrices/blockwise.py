"""The blockwise second moment: one number for each block of entries of an array."""

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import described
from gradtx._core.latex import Page, Tex, square
from gradtx._core.numerics import (
    abs_square,
    average_of_squares,
    filled_like,
    real_parts,
    shard_axes,
    squarable,
)
from gradtx._core.reduced import reduced_accumulator
from gradtx._core.shapes import Leaf
from gradtx._core.sharding import varying_like
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._matrices.blocks import BlockRule, transformer_blocks
from gradtx._matrices.matrix_blocks import leaf_blocks
from gradtx._transforms.block_norms import leaf_norm
from gradtx._transforms.moments import Moment


class BlockwiseMomentState(NamedTuple):
    """The state of `blockwise_second_moment`: the average `nu`, one number for each block."""

    nu: Any


class blockwise_second_moment(Moment):
    r"""The running average of the mean square of every block of entries.

    $$ v_B = b\, v_B + (1 - b) \operatorname{mean}_{i \in B} |g_i|^2, \qquad u_i = v_B
       \text{ for } i \in B $$

    Args:
        decay: $b$, in [0, 1).
        blocks: the rule that says into how many blocks each axis of a leaf is divided: a value with
            a method `blocks(path, leaf)` that returns a tuple of numbers. An empty tuple makes the leaf
            one block, whose number is a scalar.
        total: whether the squares of a block are added up. Otherwise their mean is taken.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the blocks are
            sharded. With None, every device takes the mean or the sum over what it holds.

    The state is `BlockwiseMomentState(nu)`. As a `Moment`, it can be bias-corrected.

    Raises:
        ValueError: if `decay` lies outside its interval; and by `init`, if the rule returns a number
            that does not divide the length of an axis.
        TypeError: if `blocks` is not a rule for blocks.

    Sources: Zhang et al., 2024, arXiv:2406.16793, algorithm 1; Ginsburg et al., 2019, arXiv:1905.11286
    (the squared norm of a leaf).

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.blockwise_second_moment(0.0), jnp.zeros((2, 3))
    >>> tx.update(jnp.array([[1.0, 3.0, 0.0], [1.0, 4.0, 2.0]]), tx.init(w))[
    ...     0
    ... ]  # an output is a column
    Array([[ 1. , 12.5,  2. ],
           [ 1. , 12.5,  2. ]], dtype=float32)
    """

    decay: Hyper = 0.999
    blocks: BlockRule = transformer_blocks()
    total: bool = False
    axis_name: Hashable | None = None
    limits = {"decay": "[0, 1)"}
    degrees = {"nu": 2}

    def validate(self) -> None:
        if not callable(getattr(self.blocks, "blocks", None)):
            raise TypeError(
                "`blockwise_second_moment(blocks=...)` must be a rule with a method "
                "`blocks(path, leaf)` that returns one number per axis, such as "
                f"`transformer_blocks()`, not {described(self.blocks)}."
            )

    def at_leaf(self, path: str, leaf: Any) -> Elementwise:
        try:
            grid = tuple(self.blocks.blocks(path, leaf))
        except ValueError as error:
            raise ValueError(f"`blockwise_second_moment`: {error}") from None
        fits = len(grid) == len(leaf.shape) or not grid
        if not fits or any(g < 1 or n % g for g, n in zip(grid, leaf.shape, strict=False) if n):
            raise ValueError(
                f"`blockwise_second_moment(blocks={self.blocks!r})` has the blocks {grid} for "
                f"`{path or '.'}` of shape {tuple(leaf.shape)}. Return one number for each axis, which "
                "divides the length of the axis."
            )
        return self._with(blocks=_Grid(grid))

    def init_leaf(self, param: Any) -> BlockwiseMomentState:
        grid = self._grid(param.shape)
        sizes = zip(grid, param.shape, strict=False)
        axes = [k if g == n else None for k, (g, n) in enumerate(sizes)]
        nu = reduced_accumulator(param, grid, axes)
        return BlockwiseMomentState(nu if grid else varying_like(nu, param))

    def update_leaf(self, update: Leaf, state: Any, param: Any) -> tuple[Leaf, Any]:
        shape, own = update.shape, self._grid(update.shape)
        grid = own or (1,) * len(shape)
        # An axis of several blocks is taken apart into the blocks and the entries of a block.
        parts = [(n,) if g in (1, n) else (g, n // g) for g, n in zip(grid, shape, strict=True)]
        split, inside, kept = [], [], []
        for g, part in zip(grid, parts, strict=True):
            if len(part) == 2 or g != part[0]:
                inside.append(len(split) + len(part) - 1)
            kept += [g, 1] if len(part) == 2 else [g]
            split += part
        x, axes = update.reshape(split), shard_axes(update, self.axis_name)
        count = max(math.prod(split[k] for k in inside), 1)
        count *= jax.lax.axis_size(axes) if axes else 1
        # A mean divides every square, and a sum bounds every entry, so that the sum below is finite.
        squares = abs_square(squarable(x, count)) if self.total else abs_square(x) / count
        square = jnp.sum(squares, tuple(inside), keepdims=True)
        square = (jax.lax.psum(square, axes) if axes else square).reshape(own)
        nu = average_of_squares(state.nu, square, self.decay)
        if not own:
            return filled_like(real_parts(update)[0], nu), BlockwiseMomentState(nu)
        return jnp.broadcast_to(nu.reshape(kept), split).reshape(shape), BlockwiseMomentState(nu)

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        # A tree without leaves has no blocks, but its state has the same structure.
        grid = self.blocks.grid if isinstance(self.blocks, _Grid) else (1,) * len(shape)
        return tuple(min(g, n) for g, n in zip(grid, shape, strict=False))

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The output for a constant square of 1, see `Moment.gain`."""
        return -jnp.expm1(log_kept)

    def tex(self, g: Tex, page: Page) -> Tex:
        if isinstance(self.blocks, leaf_blocks) and self.total:
            norm = leaf_norm(page.symbol(g), page)
            return page.average("v", self.decay, Tex(f"{norm.text}^{{2}}"))
        how = "sum" if self.total else "mean"
        words = rf"\text{{: the {how} over the block that an entry lies in}}"
        return page.average("v", self.decay, page.function(f"block{how}", words, square(g)))


class _Grid(NamedTuple):
    """The numbers of blocks along the axes of one leaf, in the place of the rule."""

    grid: tuple[int, ...]

    def blocks(self, path: str, leaf: Any) -> tuple[int, ...]:
        return self.grid

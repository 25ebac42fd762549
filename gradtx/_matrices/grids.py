"""Leaves that are divided into blocks: a grid says how many equal parts each axis has.

The number 1 stands for an axis that lies in one block, and the length of the axis for blocks that do not
extend along it. A stack of matrices has a grid with one block per matrix, or one per row.
"""

from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._core.authors import described
from gradtx._core.numerics import abs_square, real_parts, sqrt, unit_of
from gradtx._core.reduced import reduced_accumulator
from gradtx._core.shapes import Leaf
from gradtx._core.unit import Elementwise
from gradtx._matrices.axes import MatrixAxes, MatrixRule
from gradtx._matrices.shards import refuse_part

Grid = tuple[int, ...]
Cut = Annotated[jax.Array, "..."]  # a leaf whose axes may be cut into blocks, or its reduction


def matrix_grid(
    rule: MatrixRule, path: str, leaf: Any, per: Literal["matrix", "row"] = "matrix"
) -> Grid:
    """The grid of a leaf with one block per matrix, or per row, which is an output of a matrix.

    Args:
        rule: the rule that says which axes of a leaf are its matrix.
        path: the path of the leaf.
        leaf: an array, or whatever else has a shape.
        per: what a block is.

    Raises:
        ValueError: if the leaf has fewer than two axes, or if a device holds parts of blocks.
    """
    shape = tuple(leaf.shape)
    axes = rule.axes(path, leaf)
    inputs, outputs = ([k % len(shape) for k in some] for some in (axes.inputs, axes.outputs))
    whole = inputs if per == "row" else [*inputs, *outputs]
    refuse_part(rule, path, leaf, whole)
    grid = [1 if k in whole else n for k, n in enumerate(shape)]
    if per == "matrix" and isinstance(axes.blocks, int):
        first = outputs[0]
        fits = shape[first] % axes.blocks == 0
        grid[first] = axes.blocks if fits else 1
    return tuple(grid)


def in_blocks(x: Leaf, grid: Grid) -> tuple[Cut, tuple[int, ...]]:
    """A leaf whose axes are taken apart into blocks, and the axes that extend inside a block."""
    split, inside = [], []
    for parts, n in zip(grid, x.shape, strict=True):
        several = 1 < parts < n
        split += [parts, n // parts] if several else [n]
        if parts < n:
            inside.append(len(split) - 1)
    return x.reshape(split), tuple(inside)


def grid_accumulator(param: Any, grid: Grid, fill: float = 0.0) -> Cut:
    """A real array with one number for each block of a parameter."""
    shape = tuple(min(parts, n) for parts, n in zip(grid, param.shape, strict=True))
    axes = [
        k if parts >= n else None
        for k, (parts, n) in enumerate(zip(grid, param.shape, strict=True))
    ]
    return reduced_accumulator(param, shape, axes, fill)


def block_norms(x: Cut, inside: tuple[int, ...]) -> tuple[Cut, Cut]:
    """The norm of each block as two factors, with a length of 1 along the axes inside of blocks.

    The norm itself may overflow, and so may the squares of the entries.
    """
    size = jnp.maximum(*map(jnp.abs, real_parts(x))) if jnp.iscomplexobj(x) else jnp.abs(x)
    largest = jax.lax.stop_gradient(jnp.max(size, inside, keepdims=True, initial=0))
    unit = unit_of(largest)  # the norm does not depend on it
    return unit, sqrt(jnp.sum(abs_square(x / unit), inside, keepdims=True))


def over_nonzero(a: Cut, b: Cut) -> Cut:
    """The quotient of two arrays, which is 0 where the denominator is 0."""
    return jnp.where(b == 0, jnp.zeros_like(a), a / jnp.where(b == 0, jnp.ones_like(b), b))


def update_to(new: Cut, w: Cut, factor: Cut, step: Cut) -> Cut:
    """`new - w`, where `new` is `factor * w + step`, without the roundings of `new` for a factor near 1.

    A factor that differs from 1 by some units in the last place moves all entries of one binade by the
    same number of units. The difference of the rounded numbers has the same error in every step, and the
    errors would add up.
    """
    near = jnp.abs(factor - 1) < 0.5
    from_one = jnp.where(near, factor - 1, jnp.zeros_like(factor))
    return jnp.where(near, from_one * w + step, new - w)


class OnGrid(Elementwise):
    """The base class of transformations of each matrix, or each row, that also see the parameters.

    A subclass has a field `axes`, the rule that says which axes of a leaf are its matrix. In the methods
    for one leaf, `self.grid(shape)` is the grid of the leaf.
    """

    linear = True  # these classes divide gradients by their norms before they square them
    keeps_zero = True
    _hooks = Elementwise._hooks

    @property
    def block(self) -> Literal["matrix", "row"]:
        """What a block is."""
        return "matrix"

    def validate(self) -> None:
        axes: Any = getattr(self, "axes", None)
        if not callable(getattr(axes, "axes", None)):
            raise TypeError(
                f"`{type(self).__name__}(axes=...)` must be a rule with a method "
                f"`axes(path, leaf)` that returns `MatrixAxes`, such as `hidden_matrices()`, not "
                f"{described(axes)}."
            )

    def at_leaf(self, path: str, leaf: Any) -> Elementwise:
        axes: Any = getattr(self, "axes", None)
        try:
            grid = matrix_grid(axes, path, leaf, self.block)
        except ValueError as error:
            raise ValueError(f"`{type(self).__name__}`: {error}") from None
        return self._with(axes=_OfLeaf(grid))

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """The grid of a leaf of this shape."""
        axes: Any = getattr(self, "axes", None)
        # A tree without leaves has no grid, but its state has the same structure.
        return axes.grid if isinstance(axes, _OfLeaf) else (1,) * len(shape)


class _OfLeaf(NamedTuple):
    """The grid of one leaf, in the place of the rule that it comes from."""

    grid: Grid

    def axes(self, path: str, leaf: Any) -> MatrixAxes:
        raise AssertionError("The rule has been asked already.")

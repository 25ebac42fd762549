"""The basis of the matrices in one leaf.

`arithmetic.py` has the functions that compute.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._bases.arithmetic import Static, carried, learned, turned
from gradtx._bases.basis import Basis
from gradtx._bases.layout import layout_of
from gradtx._core.carry import Moment
from gradtx._core.dtypes import compute_dtype
from gradtx._core.leaf import split
from gradtx._core.numerics import everywhere, placed_like
from gradtx._core.shapes import Leaf, Scalar
from gradtx._core.sharding import mesh_axes, mesh_of, placed_on, resharded, varying_like
from gradtx._core.trees import Structure, paths
from gradtx._matrices.matrix_axes import MatrixAxes
from gradtx._matrices.parts import pack
from gradtx._matrices.shards import refuse_part
from gradtx._matrices.units import Spec, UnitGroup, UnitLeaf, partition_spec


class BasisLeaf:
    """A basis, and the leaf whose matrices it is applied to.

    Args:
        basis: the basis, with numbers in place of its schedules.
        axes: which axes of the leaf are those of its matrices.
        path: the path of the leaf.
        leaf: an object with the shape and the dtype of the leaf.
    """

    def __init__(self, basis: Basis, axes: MatrixAxes, path: str, leaf: Any) -> None:
        self.basis, self.axes, self.path = basis, axes, path
        self.shape, self.dtype, self.leaf = tuple(leaf.shape), leaf.dtype, leaf
        sizes = axes.sizes(self.shape)
        batch = axes.batch(self.shape) // (1 if isinstance(axes.blocks, int) else len(sizes))
        self.parts = [(batch, *size) for size in sizes]
        self.key, self.arrays = split(basis)

    @functools.cached_property
    def shape_inside(self) -> tuple[int, ...]:
        """The shape of the leaf in the basis.

        If the basis changes the size of matrices, the last axis of the inputs and the last axis of the
        outputs take the new lengths, and their other axes have the length 1. So a rule finds the same
        matrix in the new shape.
        """
        sizes = [size for _, *size in self.parts]
        new = [list(self.basis.size(*size)) for size in sizes]
        if new == sizes:
            return self.shape
        shape, blocks = list(self.shape), self.axes.blocks
        outputs = [size[1] for size in new]
        lengths = new[0][0], sum(outputs) * (blocks if isinstance(blocks, int) else 1)
        for side, length in zip((self.axes.inputs, self.axes.outputs), lengths, strict=True):
            for i in side:
                shape[i] = 1
            shape[side[-1]] = length
        if [list(size) for size in self.axes.sizes(tuple(shape))] != new:
            raise ValueError(
                f"`in_basis`: the projections that are fused in `{self.path or '.'}` have the outputs "
                f"{[size[1] for size in sizes]}, and {outputs} in the basis "
                f"`{type(self.basis).__name__}`, which have a different ratio. Choose a basis that "
                'keeps the outputs, such as one with `side="inputs"`.'
            )
        return tuple(shape)

    def init(self) -> Any:
        """The state of the basis before the first step."""
        dtype = compute_dtype(self.leaf)
        models = [jax.ShapeDtypeStruct(part, dtype) for part in self.parts]
        state = pack([self.basis.init_matrix(x) for x in models])
        state = jax.tree.map(lambda x: varying_like(jnp.array(x), self.leaf), state)
        known = not isinstance(self.leaf, jax.ShapeDtypeStruct)
        mesh = mesh_of([self.leaf]) if known else None
        if mesh is None or (spec := mesh_axes(self.leaf)) is None:
            return state
        arrays, structure = jax.tree.flatten(state)
        group, leaf = self.layout(spec, dtype, arrays, dict(mesh.shape))
        for k, (shape, _) in enumerate(group.states):
            sharded = isinstance(self.axes.blocks, int) and arrays[k].size
            own = leaf.state_spec(group, shape) if sharded else ()
            arrays[k] = placed_on(arrays[k], self.leaf, partition_spec(own))
        return structure.unflatten(arrays)

    def layout(
        self, spec: Spec | None, dtype: Any, states: list[Any], sizes: dict[str, int]
    ) -> tuple[UnitGroup, UnitLeaf]:
        """The group of the leaf, and how the leaf lies on a mesh (`layout_of`)."""
        return layout_of(self.axes, self.leaf, spec, dtype, states, sizes)

    @functools.cached_property
    def state_shapes(self) -> list[list[tuple[int, ...]]]:
        if len(self.parts) == 1:
            return [[]]
        models = [jax.ShapeDtypeStruct(part, jnp.float32) for part in self.parts]
        states = [jax.eval_shape(lambda x=x: self.basis.init_matrix(x)) for x in models]
        return [[x.shape for x in jax.tree.leaves(state)] for state in states]

    def inside(self) -> Any:
        """The shape and the dtype of the leaf in the basis."""
        return jax.ShapeDtypeStruct(self.shape_inside, self.dtype)

    def first(self, param: Any) -> Any:
        """What the transformation inside gets as the parameter before the first step."""
        if self.shape_inside == self.shape:
            return param
        if isinstance(param, jax.ShapeDtypeStruct):
            return self.inside()
        return varying_like(jnp.zeros(self.shape_inside, self.dtype), param)

    # In the methods below, `state` is the list of the arrays of the basis' state.

    def into(self, x: Leaf, state: list[Any]) -> Any:
        """The leaf in the basis."""
        y = turned(self._static("into", self.shape_inside), self.arrays, x, state)
        return self.placed(y)

    def back(self, y: Any, state: list[Any], given: Leaf) -> Leaf:
        """An array in the basis, turned back into a leaf, and placed like `given`."""
        u = turned(self._static("back", self.shape), self.arrays, y, state)
        return placed_like(resharded(u, given), given)

    def learn(
        self,
        x: Leaf,
        state: list[Any],
        step: Scalar,
        seed: Scalar,
        moments: list[Any],
        degrees: tuple[int, ...],
    ) -> tuple[list[Any], list[Any]]:
        """The state after a gradient, and the arrays of the inner state in the basis of that state.

        Args:
            x: the gradient.
            state: the arrays of the state.
            step: the number of steps before this one.
            seed: a seed for random numbers.
            moments: the arrays of the state of the transformation inside.
            degrees: the degrees of these arrays in the gradient.
        """
        static = self._static("learn", degrees)
        return learned(static, self.arrays, x, state, step, seed, moments)

    def check_moments(self, moments: list[Any], kinds: list[Moment]) -> None:
        """Check that arrays of the inner state have the shape of the leaf in the basis.

        Raises:
            TypeError: if one of them has another shape.
        """
        for m, y in zip(kinds, moments, strict=True):
            if y.shape != self.shape_inside:
                raise TypeError(
                    f"`in_basis` cannot carry `{m.name}` of `{m.owner}` into a new basis, since it has "
                    f"the shape {y.shape}, and the gradient in the basis has {self.shape_inside}. Pass "
                    '`on_refresh="keep"` or `on_refresh="reset"`. This is the leaf '
                    f"`{self.path or '.'}`."
                )

    def carry(self, y: Leaf, degree: int, old: list[Any], new: list[Any]) -> Leaf:
        """An array of the inner state, carried from the old basis into the new one."""
        if y.shape != self.shape_inside:
            raise TypeError(
                f"`in_basis` cannot carry an array of shape {y.shape} at `{self.path or '.'}` into a "
                f"new basis, since the gradient in the basis has the shape {self.shape_inside}. Pass "
                '`on_refresh="keep"` or `on_refresh="reset"`.'
            )
        return self.placed(carried(self._static("carry", (degree,)), self.arrays, y, old, new))

    def placed(self, y: Any) -> Any:
        """An array in the basis, on every device of an Auto mesh if the basis changes its size."""
        return y if self.shape_inside == self.shape else everywhere(y)

    def _static(self, method: str, more: Any) -> Static:
        shapes = tuple(map(tuple, self.state_shapes))
        return Static(self.key, self.axes, method, more, shapes)


def basis_leaves(
    basis: Basis, rule: Any, leaves: list[Any], structure: Structure
) -> list[BasisLeaf | None]:
    """The basis of every leaf, and None for leaves that are not updated.

    Raises:
        ValueError: if a leaf has fewer than two axes, or if a device holds a part of it.
    """
    found: list[BasisLeaf | None] = []
    names = paths(structure.unflatten(leaves))
    for path, x in zip(names, leaves, strict=True):
        if x is None:
            found.append(None)
            continue
        try:
            axes = rule.axes(path, x)
            refuse_part(rule, path, x)
        except ValueError as error:
            raise ValueError(f"`in_basis`: {error}") from None
        found.append(BasisLeaf(basis, axes, path, x))
    return found

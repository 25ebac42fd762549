"""How the leaves of one group lie on a mesh, and how a leaf is taken apart into units.

A *unit* is what belongs together along the axes of the matrix: one matrix, or the fused projections
that it holds. A leaf is a batch of units, `[batch, *unit]`, with the axes of the inputs before those of
the outputs. Everything here is known before a step is compiled, and part of its cache key.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gradtx._core.shapes import Leaf
from gradtx._matrices.hops import Hop, Rows
from gradtx._matrices.matrix_axes import MatrixAxes

# For every axis of an array, the names of the mesh axes that shard it.
Spec = tuple[tuple[str, ...], ...]


def partition_spec(spec: Spec) -> PartitionSpec:
    """The spec in the form that JAX asks for."""
    return PartitionSpec(*(names or None for names in spec))


class UnitLeaf(NamedTuple):
    """One leaf of a group.

    Attributes:
        shape: the shape of the whole leaf.
        order: its axes in the order of a batch of units.
        batch: how many of them are a batch.
        spec: the mesh axes of every axis, or None if they are not known.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    batch: int
    spec: Spec | None

    @property
    def batch_spec(self) -> Spec:
        return tuple(self.spec[i] for i in self.order[: self.batch]) if self.spec else ()

    @property
    def unit_spec(self) -> Spec | None:
        return tuple(self.spec[i] for i in self.order[self.batch :]) if self.spec else None

    @property
    def unit(self) -> tuple[int, ...]:
        """The shape of one unit."""
        return tuple(self.shape[i] for i in self.order[self.batch :])

    @property
    def units(self) -> int:
        """The number of units in the whole leaf."""
        return math.prod(self.shape[i] for i in self.order[: self.batch])

    def state_spec(self, group: "UnitGroup", shape: tuple[int, ...]) -> Spec:
        """How an array of the state of the leaf, `[batch * blocks, ...]`, is sharded where it is kept.

        A state has one axis for all axes of the batch. It is sharded if only the first of them is, since
        a device would otherwise not hold consecutive entries.

        Args:
            group: what is common to the leaves of its group.
            shape: the shape of the state of one unit.
        """
        batch = self.batch_spec
        first = batch[0] if batch and not any(batch[1:]) else ()
        return (first, *group.state_spec(shape)[1:])

    def take(self, x: Leaf) -> Rows:
        """The units of the leaf, or of the part of it that a device holds."""
        x = jnp.transpose(x, self.order)
        return x.reshape(-1, *x.shape[self.batch :])

    def put(self, units: Rows, shape: tuple[int, ...]) -> Leaf:
        """The inverse of `take`, for a leaf or a part of this shape."""
        x = units.reshape([shape[i] for i in self.order])
        return jnp.transpose(x, sorted(range(len(shape)), key=self.order.__getitem__))


class UnitGroup(NamedTuple):
    """What the leaves of one group have in common.

    Attributes:
        unit: the shape of one unit.
        axes: the axes of a batch of units that are the inputs and the outputs, and the fused blocks.
        spec: the mesh axes of every axis of a unit, or None if they are not known.
        batch: the mesh axes that shard the batches.
        dtype: the dtype of the matrices.
        states: the shapes of the arrays of the state of one unit.
        varying: inside the user's `shard_map`, the mesh axes over which the leaves vary, and else None.
        state_specs: for the shapes of arrays of the state that do not lie as `state_spec` says by
            itself, the mesh axes of every axis.
    """

    unit: tuple[int, ...]
    axes: MatrixAxes
    spec: Spec | None
    batch: tuple[str, ...]
    dtype: Any
    states: tuple[tuple[tuple[int, ...], Any], ...]
    varying: tuple[str, ...] | None = None
    state_specs: tuple[tuple[tuple[int, ...], Spec], ...] = ()

    def state_spec(self, shape: tuple[int, ...]) -> Spec:
        """How an array of the state of one unit, of this shape, is sharded.

        Rows, columns and whole matrices are sharded like their unit, and everything else is replicated,
        unless `state_specs` says something else.
        """
        for known, spec in self.state_specs:
            if known == shape:
                return spec
        if self.spec is not None and len(self.unit) == 2 and len(shape) == 3 and shape[0] == 1:
            sides = zip(shape[1:], self.unit, self.spec, strict=True)
            if all(n in (1, whole) for n, whole, _ in sides):
                sides = zip(shape[1:], self.spec, strict=True)
                return ((), *(names if n > 1 else () for n, names in sides))
        return ((),) * len(shape)

    def hops(self, sizes: dict[str, int], inputs: int) -> list[Hop]:
        """The exchanges after which a device holds whole matrices: first replicas, then sharded axes.

        Args:
            sizes: the number of devices along every mesh axis.
            inputs: how many arrays of units there are before the arrays of the state.
        """
        assert self.spec is not None
        used = {name for names in self.spec for name in names} | set(self.batch)
        replicas = tuple(name for name, size in sizes.items() if name not in used and size > 1)
        # Inside `shard_map` the replicas do the same work each, so that their results have equal types.
        several = [replicas, *self.spec] if self.varying is None else [*self.spec]
        specs: list[Spec] = [((), *self.spec)] * inputs
        specs += [((), *self.state_spec(shape)) for shape, _ in self.states]
        typed = self.varying is not None
        hops = [
            Hop(
                names,
                math.prod(sizes[name] for name in names),
                tuple([_sharded_over(spec, names) for spec in specs]),
                typed,
            )
            for names in several
            if names
        ]
        sharded = [hop for hop in hops if hop.axes[0] is not None]
        if len(self.unit) == len(sharded) == 2 and len(specs) == 1:
            # Both axes become whole at once, so that a device sends no entry twice.
            rows, columns = sharded
            names, size = (*rows.names, *columns.names), rows.size * columns.size
            return [*hops[:-2], Hop(names, size, (1,), typed, (rows.size, columns.size))]
        return hops


def _sharded_over(spec: Spec, names: tuple[str, ...]) -> int | None:
    """The axis that these mesh axes shard, perhaps together with others; None if they shard none."""
    return next((i for i, own in enumerate(spec) if {*names} <= {*own}), None)


def unit_of(
    axes: MatrixAxes,
    shape: tuple[int, ...],
    spec: Spec | None,
    dtype: Any,
    states: list[Any],
    varying: tuple[str, ...] | None = None,
) -> tuple[UnitGroup, UnitLeaf]:
    """The group of a leaf, and how the leaf lies.

    Args:
        axes: the axes of its matrices.
        shape: its shape.
        spec: the mesh axes of every axis, or None if they are not known.
        dtype: the dtype of its matrices.
        states: the arrays of its state, `[batch * blocks, ...]`.
        varying: inside the user's `shard_map`, the mesh axes over which it varies, and else None.
    """
    order, inside = unit_axes(axes, len(shape))
    leaf = UnitLeaf(shape, order, len(shape) - len(axes.inputs) - len(axes.outputs), spec)
    blocks = axes.blocks if isinstance(axes.blocks, int) else 1
    of_unit = tuple(((blocks, *x.shape[1:]), str(x.dtype)) for x in states)
    used = tuple(sorted({name for names in leaf.batch_spec for name in names}))
    return UnitGroup(leaf.unit, inside, leaf.unit_spec, used, dtype, of_unit, varying), leaf


def unit_axes(axes: MatrixAxes, ndim: int) -> tuple[tuple[int, ...], MatrixAxes]:
    """The axes of a leaf in the order of a batch of units, and what they are there."""
    inputs, outputs = ([i % ndim for i in some] for some in (axes.inputs, axes.outputs))
    order = [i for i in range(ndim) if i not in (*inputs, *outputs)] + inputs + outputs
    cut, end = 1 + len(inputs), 1 + len(inputs) + len(outputs)
    return tuple(order), MatrixAxes(tuple(range(1, cut)), tuple(range(cut, end)), axes.blocks)


def joined(leaves: list[list[Rows]]) -> list[Rows]:
    """The arrays of all leaves, each concatenated along the first axis."""
    return [x[0] if len(x) == 1 else jnp.concatenate(x) for x in zip(*leaves, strict=True)]


def repeated(x: Rows, total: int) -> Rows:
    """`x` with its first entries repeated until there are `total`.

    Copies are padding that no transformation divides by zero on, unlike zeros.
    """
    if len(x) >= total:
        return x
    return jnp.concatenate([x] * -(-total // len(x)))[:total]

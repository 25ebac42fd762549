"""A leaf as a member of a group of matrices on a mesh, and the part of its state that a device holds."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType

from gradtx._core.dtypes import compute_dtype
from gradtx._core.sharding import manual_axes, mesh_axes, varying_axes
from gradtx._matrices.groups import GROUP_BYTES
from gradtx._matrices.hops import Held
from gradtx._matrices.matrix_axes import MatrixAxes
from gradtx._matrices.parts import part_shapes, unpack
from gradtx._matrices.units import Spec, UnitGroup, UnitLeaf, unit_of


class Member(NamedTuple):
    """A leaf that is updated with others of its group.

    Attributes:
        group: its group.
        leaf: how the leaf lies.
        arrays: what comes in, then the arrays of the states, one transformation after another.
        shapes: for every transformation the shapes of the arrays of each unequal part (`part_shapes`).
    """

    group: UnitGroup
    leaf: UnitLeaf
    arrays: list[Held]
    shapes: list[Any]


def member_of(
    axes: MatrixAxes, mesh: Any, inputs: list[Held], txs: list[Any], own: list[list[Held]]
) -> Member:
    """The leaf with these inputs.

    Args:
        axes: the axes of its matrices.
        mesh: the mesh.
        inputs: what the transformations read.
        txs: the transformations.
        own: for every transformation the arrays of its state.
    """
    dtype = compute_dtype(*inputs)
    arrays = [x.astype(dtype) for x in inputs]
    shape = axes.whole(inputs[0].shape)
    count = axes.batch(shape) // len(axes.sizes(inputs[0].shape))
    models = [jax.ShapeDtypeStruct((count, *size), dtype) for size in axes.sizes(inputs[0].shape)]
    shapes, states, wholes = [], [], []
    for tx, cells in zip(txs, own, strict=True):
        shapes.append(part_shapes(tx.init_matrices, models))
        parts = unpack(cells, shapes[-1])
        states += [x for part in parts for x in part]
        if axes.is_part:  # the state is a part, too
            wholes += jax.tree.leaves(jax.eval_shape(tx.init_matrices, models[0]))
    # Inside `shard_map` a type says nothing about the axes that the `shard_map` goes over.
    inside = AxisType.Manual in mesh.axis_types
    spec = (None if inside else mesh_axes(inputs[0])) or known_axes(axes, shape, mesh)
    varying = None
    if inside:
        varying = tuple(sorted(set().union(*map(varying_axes, inputs)), key=str))
    group, leaf = unit_of(axes, shape, spec, dtype, wholes or states, varying)
    group, leaf = turned_wide(group, leaf, txs)
    return Member(group, leaf, [*arrays, *states], shapes)


def in_calls(
    group: UnitGroup, members: list[tuple[int, Member]], mesh: Any
) -> list[list[tuple[int, Member]]]:
    """The members of a group, each with its number, in lists that are updated in one call each.

    Where the layout is not known, the batch of a stack may be sharded. Such a stack cannot be joined
    with others without moving it, so it is alone unless that would leave devices idle.
    """
    if group.spec is not None:
        return [members]
    flat = [m for m in members if not m[1].leaf.batch]
    stacks = [m for m in members if m[1].leaf.batch]
    alone = [m for m in stacks if m[1].leaf.units % mesh.size == 0]
    rest = [m for m in stacks if m[1].leaf.units % mesh.size]
    # A device holds whole matrices of one chunk at once. Chunks do not depend on each other.
    size = math.prod(group.unit) * jnp.dtype(group.dtype).itemsize
    chunk = mesh.size * max(GROUP_BYTES // max(size, 1), 1)
    chunks = [flat[i : i + chunk] for i in range(0, len(flat), chunk)]
    return [*([m] for m in alone), *chunks, *([rest] if rest else [])]


def turned_wide(group: UnitGroup, leaf: UnitLeaf, txs: list[Any]) -> tuple[UnitGroup, UnitLeaf]:
    """A leaf of tall matrices turned, if it may be exchanged with the wide ones of its size then."""
    turns = leaf.spec is not None and group.axes.blocks == 1 and not group.states
    turns = turns and all(tx.transposes for tx in txs)
    if turns and len(leaf.unit) == 2 and leaf.unit[0] > leaf.unit[1]:
        leaf = leaf._replace(order=(*leaf.order[:-2], *leaf.order[:-3:-1]))
        group = group._replace(unit=leaf.unit, spec=leaf.unit_spec)
    return group, leaf


def known_axes(axes: MatrixAxes, shape: tuple[int, ...], mesh: Any) -> Spec | None:
    """The mesh axes that a rule names for every axis of a leaf; None if it names none, or others.

    Inside `shard_map` these are axes of the `shard_map`. On a mesh that does not have these axes, or
    whose sizes do not divide those of the leaf, the rule speaks of another mesh.
    """
    if axes.spec is None:
        return None
    sizes = manual_axes() or dict(mesh.shape)
    spec = tuple(tuple(n for n in names if sizes.get(n, 2) > 1) for names in axes.spec)
    for n, names in zip(shape, spec, strict=True):
        for name in names:
            if name not in sizes or n % sizes[name]:
                return None
            n //= sizes[name]
    return spec


def held_part(x: Held, spec: Spec) -> Held:
    """Of an array that is the same on all devices, the part that this device holds by `spec`."""
    sizes = manual_axes()
    for axis, names in enumerate(spec):
        names = tuple(n for n in names if sizes.get(n, 1) > 1)
        if names:
            part = x.shape[axis]
            for n in names:
                part //= sizes[n]
            start = jax.lax.axis_index(names) * part
            x = jax.lax.dynamic_slice_in_dim(x, start, part, axis)
    return jnp.asarray(x)

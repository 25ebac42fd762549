"""What the matrices of an optimizer cost in communication, in words, for the table of `routing`."""

import math
from typing import Any

import jax
from jax.sharding import NamedSharding

from gradtx._core.sharding import named_axes
from gradtx._matrices.hops import needed
from gradtx._matrices.in_place import fits_in_place
from gradtx._matrices.long_axis import fits_long_axis
from gradtx._matrices.members import turned_wide
from gradtx._matrices.mesh_stage import MeshStage
from gradtx._matrices.plans import Plan
from gradtx._matrices.units import UnitLeaf, unit_of


def traffic(stages: list[Any], leaves: list[Any], shardings: list[Any]) -> dict[int, list[str]]:
    """For the leaves that devices exchange, the collective operations of a step and who shares them.

    Args:
        stages: the stages of a program for parameters on a mesh.
        leaves: the shapes of the parameters, or None.
        shardings: the sharding of every parameter, or None.
    """
    found: dict[int, list[str]] = {}
    for stage in stages:
        if not isinstance(stage, MeshStage):
            continue
        groups: dict[Any, list[tuple[int, UnitLeaf]]] = {}
        for i in stage.leaves:
            sharding, x, axes = shardings[i], leaves[i], stage.axes[i]
            if not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1:
                continue
            model = jax.ShapeDtypeStruct((1, *axes.size(x.shape)), x.dtype)
            states = [
                s
                for tx in stage.txs
                for s in jax.tree.leaves(jax.eval_shape(tx.init_matrices, model))
            ]
            spec = named_axes(sharding.spec, sharding.mesh, len(x.shape))
            group, leaf = unit_of(axes, tuple(x.shape), spec, x.dtype, states)
            group, leaf = turned_wide(group, leaf, stage.txs)
            groups.setdefault((group, sharding.mesh), []).append((i, leaf))
        for (group, mesh), members in groups.items():
            plan: Any = Plan(None, group, tuple(leaf for _, leaf in members), mesh)  # pyright: ignore
            words = _words(plan, stage.txs)
            others = len(members) - 1
            if words and others:
                words += f" with {others} other{'s' if others > 1 else ''}"
            for i, _ in members:
                found.setdefault(i, []).extend([words] if words else [])
    return found


def _words(plan: Plan, txs: list[Any]) -> str:
    """The collective operations of one group; an empty text if it needs none of matrix size."""
    if all(tx.only_sums for tx in txs) and fits_in_place(plan):
        return ""
    if all(tx.few_long_products or tx.only_sums for tx in txs) and fits_long_axis(plan):
        m = min(plan.group.unit)
        return f"sums of {m}x{m} products"
    sizes = dict(plan.mesh.shape)
    stacks = math.prod(sizes[name] for name in plan.group.batch)
    count = sum(leaf.units for leaf in plan.leaves) // stacks
    hops = needed(plan.group.hops(sizes, 1), count)
    sharded = sum(hop.axes[0] is not None for hop in hops)
    words = [f"{2 * sharded} all-to-alls"] if sharded else []
    return " and ".join([*words, *(["1 all-gather"] if len(hops) > sharded else [])])

"""What the matrices of an optimizer cost in communication, in words, for the table of `routing`."""

import math
from typing import Any

import jax
from jax.sharding import NamedSharding

from gradtx._core.layouts import Advice, with_others
from gradtx._core.sharding import is_explicit, named_axes
from gradtx._matrices.fallbacks import advice, advice_on_layers, is_gathered, moves_to
from gradtx._matrices.hops import needed
from gradtx._matrices.in_place import fits_in_place
from gradtx._matrices.long_axis import fits_long_axis
from gradtx._matrices.members import known_axes, turned_wide
from gradtx._matrices.mesh_stage import MeshStage
from gradtx._matrices.plans import Plan
from gradtx._matrices.staged import goes_at_once
from gradtx._matrices.units import UnitGroup, UnitLeaf, unit_of


def traffic(stages: list[Any], leaves: list[Any], shardings: list[Any]) -> dict[int, list[str]]:
    """For the leaves that devices exchange, the collective operations of a step and who shares them.

    Args:
        stages: the stages of a program for parameters on a mesh.
        leaves: the shapes of the parameters, or None.
        shardings: the sharding of every parameter, or None.
    """
    found: dict[int, list[str]] = {}
    whole = gathered(stages, leaves, shardings)
    for stage in _of_matrices(stages):
        groups: dict[Any, list[tuple[int, UnitLeaf]]] = {}
        for i, group, leaf in _members(stage, leaves, shardings):
            if i in whole:
                found.setdefault(i, []).append("gathered whole")
                continue
            group, leaf = turned_wide(group, leaf, stage.txs)
            known = _is_known(stage, i, leaf, shardings[i].mesh)
            groups.setdefault((group, shardings[i].mesh, known), []).append((i, leaf))
        for (group, mesh, known), members in groups.items():
            plan: Any = Plan(None, group, tuple(leaf for _, leaf in members), mesh)  # pyright: ignore
            words = _words(plan, stage.txs, known)
            words += with_others(len(members) - 1) if words else ""
            for i, _ in members:
                found.setdefault(i, []).extend([words] if words else [])
    return found


def gathered(stages: list[Any], leaves: list[Any], shardings: list[Any]) -> list[int]:
    """The leaves whose matrices the compiler gathers, since it is not told how they are sharded.

    Args:
        stages: as in `traffic`.
        leaves: as in `traffic`.
        shardings: as in `traffic`.
    """
    groups = _constrained(stages, leaves, shardings)
    return sorted({i for plan, members in groups for i, leaf in members if is_gathered(plan, leaf)})


def gathering(program: Any, leaves: list[Any], shardings: list[Any]) -> Advice:
    """What to do about the leaves that are `gathered`."""
    whole = gathered(program.stages, leaves, shardings)
    if not whole:
        return Advice([])
    return Advice(whole, "gathered whole", advice(program.lowering.paths[whole[0]], len(whole) - 1))


def moving(program: Any, leaves: list[Any], shardings: list[Any]) -> Advice:
    """What to do about the stacks that a compiled step shards in another way than before."""
    groups = _constrained(program.stages, leaves, shardings)
    found = {i: n for plan, own in groups for i, leaf in own if (n := moves_to(plan, leaf))}
    for i in gathered(program.stages, leaves, shardings):
        found.pop(i, None)
    if not found:
        return Advice([])
    i = min(found)
    sentence = advice_on_layers(program.lowering.paths[i], len(found) - 1, found[i])
    return Advice(sorted(found), f"layers move to {found[i]!r}", sentence)


def _constrained(
    stages: list[Any], leaves: list[Any], shardings: list[Any]
) -> list[tuple[Plan, list[tuple[int, UnitLeaf]]]]:
    """The groups that the compiler brings together without being told how they lie (`staged.py`)."""
    found = []
    for stage in _of_matrices(stages):
        groups: dict[Any, list[tuple[int, UnitLeaf]]] = {}
        for i, group, leaf in _members(stage, leaves, shardings):
            mesh = shardings[i].mesh
            if not _is_known(stage, i, leaf, mesh):
                alone = i if leaf.units % mesh.size == 0 and leaf.batch else None
                group = group._replace(spec=None, batch=())
                groups.setdefault((group, mesh, alone), []).append((i, leaf))
        for (group, mesh, _), members in groups.items():
            plan: Any = Plan(None, group, tuple(leaf for _, leaf in members), mesh)  # pyright: ignore
            if not _no_exchange(plan, stage.txs):
                found.append((plan, members))
    return found


def _of_matrices(stages: list[Any]) -> list[MeshStage]:
    return [stage for stage in stages if isinstance(stage, MeshStage)]


def _members(
    stage: MeshStage, leaves: list[Any], shardings: list[Any]
) -> list[tuple[int, UnitGroup, UnitLeaf]]:
    """The leaves of a stage that lie on a mesh of several devices, as in `unit_of`."""
    members = []
    for i in stage.leaves:
        sharding, x, axes = shardings[i], leaves[i], stage.axes[i]
        if not isinstance(sharding, NamedSharding) or sharding.mesh.size == 1:
            continue
        model = jax.ShapeDtypeStruct((1, *axes.size(x.shape)), x.dtype)
        states = [
            s for tx in stage.txs for s in jax.tree.leaves(jax.eval_shape(tx.init_matrices, model))
        ]
        spec = named_axes(sharding.spec, sharding.mesh, len(x.shape))
        members.append((i, *unit_of(axes, tuple(x.shape), spec, x.dtype, states)))
    return members


def _no_exchange(plan: Plan, txs: list[Any]) -> bool:
    """Whether matrices stay where they are, or are sharded along their long axis."""
    if all(tx.only_sums for tx in txs) and fits_in_place(plan):
        return True
    return all(tx.few_long_products or tx.only_sums for tx in txs) and fits_long_axis(plan)


def _is_known(stage: MeshStage, i: int, leaf: UnitLeaf, mesh: Any) -> bool:
    """Whether a compiled step is told how this leaf is sharded."""
    return is_explicit(mesh) or known_axes(stage.axes[i], leaf.shape, mesh) is not None


def _words(plan: Plan, txs: list[Any], known: bool) -> str:
    """The collective operations of one group; an empty text if it needs none of matrix size.

    If the layout is not `known`, the compiler makes both axes of a matrix whole at once, or one after
    the other (`staged.py`).
    """
    if _no_exchange(plan, txs):
        if all(tx.only_sums for tx in txs) and fits_in_place(plan):
            return ""
        m = min(plan.group.unit)
        return f"sums of {m}x{m} products"
    sizes = dict(plan.mesh.shape)
    stacks = math.prod(sizes[name] for name in plan.group.batch)
    count = sum(leaf.units for leaf in plan.leaves) // stacks
    hops = needed(plan.group.hops(sizes, 1), count)
    sharded = [hop for hop in hops if hop.axes[0] is not None]
    exchanges = sum(1 if known or hop.both is None else 2 for hop in sharded)
    if sharded and not known and goes_at_once(plan):
        exchanges = 1
    words = [f"{2 * exchanges} all-to-alls"] if sharded else []
    return " and ".join([*words, *(["1 all-gather"] if len(hops) > len(sharded) else [])])

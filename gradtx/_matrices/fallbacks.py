"""Layouts in which every device has to gather whole matrices, and what to do about it.

The numbers stay right there, but devices do not share the work, or send and hold more than they need.
"""

import warnings
from typing import Any

from jax.sharding import AxisType

from gradtx._core.sharding import left_axes
from gradtx._matrices.plans import Plan
from gradtx._matrices.staged import can_share_shardings, goes_at_once, stage_order
from gradtx._matrices.units import UnitLeaf


def warn_in_shard_map(tx: Any, low: Any, axes: list[Any]) -> None:
    """Warn if a `shard_map` goes over some mesh axes only, so that the others cannot share matrices."""
    whole = [i for i, a in enumerate(axes) if a is not None and not a.is_part]
    if not whole or tx.only_sums or not (names := left_axes()):
        return
    said = low.once("said about shard_map", list)
    if said:  # an optimizer may consist of several such transformations
        return
    said.append(True)
    these = and_others(low.paths[whole[0]], len(whole) - 1)
    warnings.warn(
        f"`{type(tx).__name__}` updates {these} inside a `shard_map` that does not go over the mesh "
        f"axis {names[0]!r}. The devices along this axis gather these matrices, and each of them "
        "updates all. Call the optimizer outside of `shard_map`; or let `shard_map` go over all axes "
        "of the mesh, and use `gradtx.place(tx, params)`.",
        stacklevel=2,
    )


def is_gathered(plan: Plan, leaf: UnitLeaf) -> bool:
    """Whether the compiler gathers the matrices of this leaf, if it is not told how they are sharded.

    The stack of a group is sharded over one mesh axis after another (`staged.py`). The compiler finds an
    exchange for a mesh axis if this axis is the last one of those that shard an axis of a matrix, or if
    two mesh axes go at once.

    Args:
        plan: the group, whose layout is known here.
        leaf: one of its leaves.
    """
    if AxisType.Auto not in plan.mesh.axis_types or leaf.spec is None:
        return False
    if goes_at_once(plan):
        return False
    names = stage_order(plan)
    left = [list(axis) for axis in leaf.unit_spec or ()]
    if leaf.batch:
        first, *others = leaf.batch_spec
        share = 1
        for name in names:
            share *= plan.mesh.shape[name]
        aside = len(names) > 1 and any(others)
        if aside or len(first) > 1 or first != names[: len(first)]:
            return True
        if others and any(left) and leaf.shape[leaf.order[0]] % share:
            return True
    for name in names:
        for axis in left:
            if name in axis and axis.pop() != name:
                return True
    return False


def moves_to(plan: Plan, leaf: UnitLeaf) -> str | None:
    """The mesh axis over which the compiler shards the layers of this stack in a step, if it moves it.

    Where JAX cannot give an array the sharding of another one, the compiler leaves the stack of a group
    as it comes back: its layers are sharded over the first mesh axis of the stages, and nothing else is.

    Args:
        plan: the group, whose layout is known here.
        leaf: one of its leaves.
    """
    if can_share_shardings() or AxisType.Auto not in plan.mesh.axis_types:
        return None
    if leaf.spec is None or not leaf.batch:
        return None
    layers = leaf.order[0]
    for name in stage_order(plan)[:1]:
        found = tuple((name,) if i == layers else () for i in range(len(leaf.shape)))
        if leaf.shape[layers] % plan.mesh.shape[name] == 0 and leaf.spec != found:
            return name
    return None


def advice(path: str, others: int) -> str:
    """What to do about a leaf that `is_gathered`, and so many others.

    Args:
        path: the path of the leaf.
        others: how many other leaves are gathered as well.
    """
    return (
        f"On a mesh with axes of the type Auto, the compiler gathers {and_others(path, others)} "
        "whole in every step, since it finds no exchange for matrices that are sharded in this way. Use "
        "the optimizer that `gradtx.place(tx, params)` returns, or make the axes of the mesh Explicit."
    )


def advice_on_layers(path: str, others: int, name: str) -> str:
    """What to do about a stack whose layers the compiler shards, see `moves_to`, and so many others.

    Args:
        path: the path of the stack.
        others: of how many other stacks it shards the layers.
        name: the mesh axis over which it does.
    """
    return (
        "On a mesh with axes of the type Auto, a compiled step returns the update and the state of "
        f"{and_others(path, others)} with the layers sharded over {name!r}, and nothing else. The "
        "parameters are not sharded so, and the next step is compiled again. Use the optimizer that "
        "`gradtx.place(tx, params)` returns, pass `out_shardings` to `jax.jit`, or make the axes of the "
        "mesh Explicit."
    )


def and_others(path: str, others: int) -> str:
    """A leaf, and so many others, in words."""
    more = f" and {others} other leaf" if others == 1 else f" and {others} other leaves"
    return f"`{path or '.'}`" + (more if others else "")

"""Transformations that need only sums over matrices: sharded matrices stay where they are.

A norm of a matrix is a sum over its shards. The matrices of a group are stacked, so that one collective
operation adds up the sums of all of them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._matrices.groups import cut
from gradtx._matrices.hops import Held
from gradtx._matrices.plans import Plan


def fits_in_place(plan: Plan) -> bool:
    """Whether the matrices are leaves, or stacks of them, whose axes need not be merged."""
    return (
        plan.group.axes.blocks == 1
        and len(plan.group.unit) == 2
        and max(leaf.batch for leaf in plan.leaves) <= 1
    )


@functools.partial(jax.jit, static_argnums=0)
def in_place(plan: Plan, leaves: list[list[Held]], numbers: list[Any]) -> list[list[Held]]:
    """The wanted results and the new arrays of the state, for every leaf; as `exchanged`."""
    inputs, wanted = plan.steps.inputs, len(plan.steps.wanted)
    flat = [k for k, leaf in enumerate(plan.leaves) if not leaf.batch]
    done: list[Any] = [None] * len(leaves)
    for some in [flat, *([k] for k in range(len(leaves)) if k not in flat)]:
        if not some:
            continue
        taken = []
        for k in some:
            x = [jnp.transpose(x, plan.leaves[k].order) for x in leaves[k][:inputs]]
            x = [x if plan.leaves[k].batch else x[None] for x in x]
            taken.append([*x, *(s[:, None] for s in leaves[k][inputs:])])
        arrays = [x[0] if len(x) == 1 else jnp.concatenate(x) for x in zip(*taken, strict=True)]
        new = plan.steps.run(plan.group, arrays, numbers)
        sizes = [len(x[0]) for x in taken]
        for k, parts in zip(some, zip(*(cut(x, sizes) for x in new), strict=True), strict=True):
            leaf = plan.leaves[k]
            back = sorted(range(len(leaf.order)), key=leaf.order.__getitem__)
            units = [x if leaf.batch else x[0] for x in parts[:wanted]]
            units = [jnp.transpose(x, back) for x in units]
            done[k] = [*units, *(s[:, 0] for s in parts[wanted:])]
    return done

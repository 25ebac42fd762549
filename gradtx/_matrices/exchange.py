"""Matrices whose layout is known, brought together by exchanges under `shard_map` (`hops.py`).

The devices exchange shards of all matrices of a group at once. Every device then updates whole matrices
by itself, and they go back the same way. So a group takes two exchanges for every sharded axis of the
matrices, and every device does its share of the work. Nothing is left to the compiler's partitioner.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._core.sharding import is_explicit, manual_axes
from gradtx._matrices.groups import cut
from gradtx._matrices.hops import Held, Hop, Rows, back, needed, there
from gradtx._matrices.plans import Plan
from gradtx._matrices.units import UnitLeaf, joined, partition_spec, repeated

EVERYWHERE = PartitionSpec()


@functools.partial(jax.jit, static_argnums=0)
def exchanged(plan: Plan, leaves: list[list[Held]], numbers: list[Any]) -> list[list[Held]]:
    """The results and the new arrays of the state, for every leaf.

    Args:
        plan: what is known before.
        leaves: for every leaf its arrays: what comes in, then the arrays of its state.
        numbers: for each step its arrays, and what `begin` computed for it.
    """
    inputs, outputs = plan.steps.inputs, plan.steps.outputs
    kept = [inputs + k for k in plan.kept]
    specs, given = [], []
    for leaf, arrays in zip(plan.leaves, leaves, strict=True):
        assert leaf.spec is not None
        own = [partition_spec(leaf.spec)] * inputs
        own += [_spec_of_state(plan, leaf, shape) for shape, _ in plan.group.states]
        specs.append(own)
        arrays = [x if k < inputs else _spread(leaf, x) for k, x in enumerate(arrays)]
        given.append([_to(plan.mesh, x, spec) for x, spec in zip(arrays, own, strict=True)])
    run = jax.shard_map(
        functools.partial(_on_device, plan),
        mesh=plan.mesh,
        in_specs=(specs, jax.tree.map(lambda _: EVERYWHERE, numbers)),
        out_specs=[[own[0]] * outputs + [own[k] for k in kept] for own in specs],
        # A result that was gathered is the same on all devices, which types cannot say.
        check_vma=False,
    )
    results = run(given, jax.tree.map(lambda x: _to(plan.mesh, x, EVERYWHERE), numbers))
    done = []
    for leaf, arrays, new in zip(plan.leaves, leaves, results, strict=True):
        old = [arrays[0]] * outputs + [arrays[k] for k in kept]
        like = [_like(x, o) for x, o in zip(new, old, strict=True)]
        if any(leaf.batch_spec[1:]) and not is_explicit(plan.mesh):
            # The compiler would let the axis of the state stay sharded over the axes of the batch.
            for i, k in enumerate(plan.kept, outputs):
                spec = partition_spec(leaf.state_spec(plan.group, plan.group.states[k][0]))
                like[i] = jax.lax.with_sharding_constraint(like[i], NamedSharding(plan.mesh, spec))
        done.append(like)
    return done


@functools.partial(jax.jit, static_argnums=0)
def exchanged_parts(plan: Plan, leaves: list[list[Held]], numbers: list[Any]) -> list[list[Held]]:
    """As `exchanged`, inside the user's `shard_map`, where leaves are what the device holds."""
    return _on_device(plan, leaves, numbers)


def _on_device(plan: Plan, leaves: list[list[Held]], numbers: list[Any]) -> list[list[Held]]:
    group, inputs, outputs = plan.group, plan.steps.inputs, plan.steps.outputs
    taken = []
    for leaf, own in zip(plan.leaves, leaves, strict=True):
        units = [leaf.take(x) for x in own[:inputs]]
        states = zip(own[inputs:], group.states, strict=True)
        count = len(units[0])
        taken.append([*units, *(x.reshape(count, *_rest(x, shape)) for x, (shape, _) in states)])
    sizes = [len(own[0]) for own in taken]
    arrays = joined(taken)
    hops = needed(group.hops(manual_axes(), inputs), sum(sizes))
    if not plan.replicas:
        hops = [hop for hop in hops if hop.axes[0] is not None]
    share = math.prod(hop.size for hop in hops)
    bytes_of_unit = math.prod(group.unit) * jnp.dtype(group.dtype).itemsize
    chunk = share * max(plan.cap // max(bytes_of_unit, 1), 1)
    results = []
    for start in range(0, max(sum(sizes), 1), chunk):
        part = [x[start : start + chunk] for x in arrays]
        results.append(_together(plan, hops, part, numbers))
    cuts = zip(*(cut(x, sizes) for x in joined(results)), strict=True)
    done = []
    for leaf, own, new in zip(plan.leaves, leaves, cuts, strict=True):
        units = [leaf.put(x, own[0].shape) for x in new[:outputs]]
        states = zip(new[outputs:], (own[inputs + k] for k in plan.kept), strict=True)
        done.append([*units, *(x.reshape(old.shape) for x, old in states)])
    return done


def _together(plan: Plan, hops: list[Hop], arrays: list[Rows], numbers: list[Any]) -> list[Rows]:
    """One exchange there, the steps on whole matrices, and one exchange back."""
    inputs, outputs = plan.steps.inputs, plan.steps.outputs
    dtype, counts = arrays[0].dtype, list[int]()
    if hops:
        arrays = [plan.sent(x) if i < inputs else x for i, x in enumerate(arrays)]
    for hop in hops:
        # Each hop has padding of its own, so that what comes back over it has no padding of the others.
        counts.append(len(arrays[0]))
        total = -(-counts[-1] // hop.size) * hop.size
        if total != counts[-1]:
            # Without the barrier, XLA moved the padding past an exchange, and refused some programs.
            arrays = list(jax.lax.optimization_barrier([repeated(x, total) for x in arrays]))
        arrays = there(hop, arrays)
    arrays = [x.astype(dtype) if i < inputs else x for i, x in enumerate(arrays)]
    new = plan.steps.run(plan.group, arrays, numbers)
    if hops:
        new = [plan.sent(x) if i < outputs else x for i, x in enumerate(new)]
    for hop, count in reversed(list(zip(hops, counts, strict=True))):
        axes = (hop.axes[0],) * outputs + tuple(hop.axes[inputs + k] for k in plan.kept)
        new = back(hop._replace(axes=axes), new)
        new = [x[:count] for x in new]
    return [x.astype(dtype) if i < outputs else x for i, x in enumerate(new)]


def _spec_of_state(plan: Plan, leaf: UnitLeaf, shape: tuple[int, ...]) -> PartitionSpec:
    """How an array of the state of a leaf enters `shard_map`; `shape` is that of one unit's part."""
    if not any(leaf.batch_spec[1:]):
        return partition_spec(leaf.state_spec(plan.group, shape))
    return partition_spec((*leaf.batch_spec, *plan.group.state_spec(shape)))


def _spread(leaf: UnitLeaf, x: Held) -> Held:
    """An array of a state whose first axis is taken apart into the axes of the batch, if need be.

    A state has one axis for all axes of the batch. If one of these is sharded that is not the first, a
    device does not hold consecutive entries of that axis.
    """
    if not any(leaf.batch_spec[1:]):
        return x
    batch = [leaf.shape[i] for i in leaf.order[: leaf.batch]]
    return x.reshape(*batch, len(x) // math.prod(batch), *x.shape[1:])


def _rest(x: Held, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one unit's part of a state that a device holds; `shape` is that of the whole part."""
    return (shape[0], *x.shape[x.ndim - len(shape) + 1 :])


def _to(mesh: Any, x: Held, spec: PartitionSpec) -> Held:
    """On an Explicit mesh, `x` with the sharding that `shard_map` asks for."""
    return jax.sharding.reshard(x, NamedSharding(mesh, spec)) if is_explicit(mesh) else x


def _like(x: Held, old: Held) -> Held:
    """`x` with the shape of `old`, and on an Explicit mesh with its sharding."""
    sharding = jax.typeof(old).sharding
    if x.shape != old.shape:
        kept = x.ndim - old.ndim + 1
        spec = PartitionSpec(*(None,) * kept, *sharding.spec[1:])
        x = _to(sharding.mesh, x, spec).reshape(old.shape)
    return jax.sharding.reshard(x, sharding) if is_explicit(sharding.mesh) else x

"""Matrices whose layout is not known, brought together by constraints on an Auto mesh.

On an Auto mesh the type of an array says on which mesh it lies, but not how it is sharded. So the
matrices of a group are stacked, and constraints shard the axis of the stack over one mesh axis after
another (`padded.py`), or over both axes of a mesh at once (`both_axes.py`). From that, XLA finds the
exchanges of `exchange.py` by itself. Every device then updates whole matrices under `shard_map`, and the
stack goes back by the same steps.
"""

import functools
import itertools
import math
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._core.numerics import placed_like
from gradtx._core.sharding import is_explicit
from gradtx._matrices.both_axes import collected, spread
from gradtx._matrices.groups import cut
from gradtx._matrices.hops import Held, Rows
from gradtx._matrices.padded import collected_padded, spread_padded
from gradtx._matrices.plans import Plan
from gradtx._matrices.units import UnitLeaf, joined, repeated

try:
    from jax.experimental.shard_alike import shard_alike
    from jax.experimental.xla_metadata import set_xla_metadata
except ImportError:
    shard_alike: Any = None
    set_xla_metadata: Any = None


_pairs = itertools.count()


def can_share_shardings() -> bool:
    """Whether JAX can give an array the sharding of another one, which JAX 0.12 cannot."""
    return shard_alike is not None


def sharded_alike(mesh: Any, x: Held, like: Held, *, stack: bool = False) -> Held:
    """`x` with the sharding of another array of its shape on this mesh, whatever that is.

    Where JAX cannot do that, the compiler follows a choice by `like`. For a `stack` it would not: this
    may take one more exchange then, and move. On an Explicit mesh, types say how arrays are sharded.
    """
    if is_explicit(mesh):
        return x
    if shard_alike is None:
        return x if stack else placed_like(x, like)
    # What comes out of a `shard_map` has the sharding that its specs say, which would win over that of
    # `like`. This constraint leaves all axes to the compiler.
    free = NamedSharding(mesh, PartitionSpec(*(PartitionSpec.UNCONSTRAINED,) * x.ndim))
    x = jax.lax.with_sharding_constraint(x, free)
    # JAX lowers equal equations once, and would shard all pairs of one shape alike.
    with set_xla_metadata(pair=str(next(_pairs))):
        return shard_alike(like, x)[1]


def staged(
    plan: Plan, leaves: list[list[Held]], numbers: list[Any], params: list[Held] | None
) -> list[list[Held]]:
    """The wanted results and the new arrays of the state, for every leaf; as `exchanged`.

    The results are sharded like the parameters of the leaves. If these are not given, the results of
    stacks are sharded like what comes in.
    """
    # JAX traces equal calls of a compiled function once, and would shard the arrays of all calls alike.
    run = _alike if isinstance(leaves[0][0], Tracer) else _compiled
    return run(plan, leaves, numbers, params)


def _alike(
    plan: Plan, leaves: list[list[Held]], numbers: list[Any], params: list[Held] | None
) -> list[list[Held]]:
    """`staged`, with the shardings of what comes in, of the results, and of the state."""
    inputs, outputs = plan.steps.inputs, plan.steps.outputs
    given, likes = [], list[Any]()
    for k, (leaf, own) in enumerate(zip(plan.leaves, leaves, strict=True)):
        like: Any = own[0] if params is None and leaf.batch else params and params[k]
        units = own[:inputs]
        if params is not None:
            units = [sharded_alike(plan.mesh, x, like, stack=True) for x in units]
        given.append([*units, *own[inputs:]])
        likes.append(like)
    done = []
    results = _in_stages(plan, given, numbers)
    for leaf, like, own, new in zip(plan.leaves, likes, leaves, results, strict=True):
        alike = functools.partial(sharded_alike, plan.mesh, stack=leaf.batch > 0)
        units = new[:outputs]
        if like is not None:
            units = [alike(x, like) for x in units]
        # With another sharding than before, the state would make the next step a program of its own.
        states = zip(new[outputs:], (own[inputs + k] for k in plan.kept), strict=True)
        done.append([*units, *(alike(x, old) for x, old in states)])
    return done


_compiled = jax.jit(_alike, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _in_stages(plan: Plan, leaves: list[list[Held]], numbers: list[Any]) -> list[list[Held]]:
    """`staged`, with the shardings that the constraints leave."""
    inputs, outputs = plan.steps.inputs, plan.steps.outputs
    group = plan.group
    taken = []
    for leaf, own in zip(plan.leaves, leaves, strict=True):
        units = [leaf.take(x) for x in own[:inputs]]
        states = zip(own[inputs:], group.states, strict=True)
        taken.append([*units, *(x.reshape(leaf.units, *shape) for x, (shape, _) in states)])
    sizes = [leaf.units for leaf in plan.leaves]
    arrays = joined(taken)
    count, dtype = len(arrays[0]), arrays[0].dtype
    names = stage_order(plan)
    # The batch of a stack may be sharded. If it cannot be, the pin keeps XLA from sharding the axis of
    # the stack already where it is put together, which would move replicated leaves three times, and
    # from passing matrices from device to device where it is cut.
    pinned = _is_pinned(plan)
    arrays = [plan.sent(x) if i < inputs else x for i, x in enumerate(arrays)]
    if pinned:
        arrays = [_over(plan.mesh, (), x) for x in arrays]
    at_once = goes_at_once(plan)
    total = -(-count // (share := math.prod(plan.mesh.shape[name] for name in names))) * share
    in_turn = total != count and len(names) > 1 and not at_once
    counts: list[int] = []
    if total != count and not in_turn:
        arrays = list(jax.lax.optimization_barrier([repeated(x, total) for x in arrays]))
        if pinned:
            arrays = [_over(plan.mesh, (), x) for x in arrays]
    if at_once:
        arrays = [spread(plan.mesh, names, x) for x in arrays]
    elif in_turn:
        arrays, counts = spread_padded(plan.mesh, names, arrays)
    else:
        for end in range(1, len(names) + 1):
            arrays = [_over(plan.mesh, names[:end], x) for x in arrays]

    def on_device(arrays: list[Rows], numbers: list[Any]) -> list[Rows]:
        arrays = [x.astype(dtype) if i < inputs else x for i, x in enumerate(arrays)]
        new = plan.steps.run(group, arrays, numbers)
        return [plan.sent(x) if i < outputs else x for i, x in enumerate(new)]

    share_of = PartitionSpec(names or None)
    new = jax.shard_map(
        on_device,
        mesh=plan.mesh,
        in_specs=(share_of, PartitionSpec()),
        out_specs=share_of,
        check_vma=False,
    )(arrays, numbers)
    if at_once:
        new = [_over(plan.mesh, (), collected(plan.mesh, names, x)) for x in new]
    elif in_turn:
        new = collected_padded(plan.mesh, names, new, counts, pinned=pinned)
    else:
        for end in range(len(names) - 1, 0 if not pinned else -1, -1):
            new = [_over(plan.mesh, names[:end], x) for x in new]
    new = [x[:count].astype(dtype) if i < outputs else x[:count] for i, x in enumerate(new)]
    done = []
    cuts = zip(*(cut(x, sizes) for x in new), strict=True)
    for leaf, own, parts in zip(plan.leaves, leaves, cuts, strict=True):
        units = [leaf.put(x, leaf.shape) for x in parts[:outputs]]
        states = zip(parts[outputs:], (own[inputs + k] for k in plan.kept), strict=True)
        done.append([*units, *(x.reshape(old.shape) for x, old in states)])
    return done


def stage_order(plan: Plan) -> tuple[str, ...]:
    """The mesh axes over which matrices are shared among devices, in the order in which they are added.

    If one axis of a matrix is sharded over several mesh axes, such as `("x", "y")`, a device and its
    neighbors along the last of these hold consecutive entries. XLA finds an exchange only if that mesh
    axis comes first, and gathers whole matrices otherwise, unless the mesh axes go at once. There, this
    order moves least. The layers of a stack are usually sharded over the first mesh axis, if over any.
    """
    names = plan.shared_over(sum(leaf.units for leaf in plan.leaves))
    return names[::-1] if _is_pinned(plan) else names


def goes_at_once(plan: Plan) -> bool:
    """Whether matrices are exchanged over both axes of the mesh at once.

    XLA gathers them in some layouts if the mesh has three axes, or if the layers of a stack may be
    sharded.
    """
    several = [n for n in plan.mesh.shape.values() if n > 1]
    return len(stage_order(plan)) == len(several) == 2 and _is_pinned(plan)


def _is_pinned(plan: Plan) -> bool:
    return not any(_may_be_sharded(plan.mesh, leaf) for leaf in plan.leaves)


def _may_be_sharded(mesh: Any, leaf: UnitLeaf) -> bool:
    """Whether a mesh axis divides an axis of the batch."""
    sizes = [n for n in mesh.shape.values() if n > 1]
    return any(leaf.shape[i] % n == 0 for i in leaf.order[: leaf.batch] for n in sizes)


def _over(mesh: Any, names: tuple[str, ...], x: Rows) -> Rows:
    """`x` with its first axis sharded over these mesh axes, and the others as XLA chooses."""
    spec = PartitionSpec(names or None, *(PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

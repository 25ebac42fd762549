"""Few matrices that are much longer than wide: each is sharded along its long axis, and nowhere whole.

The Newton-Schulz iteration needs few products over the long axis of a matrix: in the Gram form one per
restart, `X X^T`, whose result has only the size of the short axis. Sharded along the long axis, such a
product is a product of shards and one sum over the devices. So where a model has fewer matrices of a
shape than there are devices, several devices share the work on a matrix, and less is sent.

Everything else in the iteration has the size of the short axis, and every device computes it.
"""

import functools
import math
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._core.sharding import is_explicit
from gradtx._matrices.groups import cut
from gradtx._matrices.hops import Held, Rows
from gradtx._matrices.plans import Plan
from gradtx._matrices.staged import sharded_alike
from gradtx._matrices.units import Spec, UnitLeaf, joined


def fits_long_axis(plan: Plan) -> bool:
    """Whether both the operations and the bytes of a device are fewer than with whole matrices.

    Counted for five steps of the Gram form with one restart, in products of m x m matrices, where an
    m x n matrix has the aspect k = n / m: 4k + 14 for a whole matrix, or 10k + 5 in the standard form;
    4k / devices + 14 for a matrix that all devices share. Two sums of m x m numbers, which count twice
    on a ring, stand against sending the matrix there and back.
    """
    unit, devices = plan.group.unit, plan.mesh.size
    if len(unit) != 2 or plan.group.axes.blocks != 1 or plan.group.batch or not min(unit):
        return False
    m, n = sorted(unit)
    k, count = n / m, sum(leaf.units for leaf in plan.leaves)
    share = -(-count // devices)
    fewer_products = count * (4 * k / devices + 14) < share * min(4 * k + 14, 10 * k + 5)
    return n % devices == 0 and fewer_products and 2 * count * m < share * n


@functools.partial(jax.jit, static_argnums=0)
def along_long_axis(
    plan: Plan, leaves: list[list[Held]], numbers: list[Any], params: list[Held] | None
) -> list[list[Held]]:
    """The wanted results and the new arrays of the state, for every leaf; as `staged`."""
    inputs, wanted = plan.steps.inputs, len(plan.steps.wanted)
    if is_explicit(plan.mesh):
        shardings = [
            [jax.typeof(x).sharding for x in [own[0]] * wanted + own[inputs:]] for own in leaves
        ]
        run: Any = jax.sharding.auto_axes(
            functools.partial(_by_constraints, plan),
            axes=plan.mesh.axis_names,
            out_sharding=shardings,
        )
        new = run(leaves, numbers, None)
    else:
        new = _by_constraints(plan, leaves, numbers, params)
    wide = plan.group.dtype
    return [[x.astype(wide) if i < wanted else x for i, x in enumerate(own)] for own in new]


def _by_constraints(
    plan: Plan, leaves: list[list[Held]], numbers: list[Any], params: list[Held] | None
) -> list[list[Held]]:
    """The same on a mesh with Auto axes, where the compiler finds the sums over the devices.

    The results still have the dtype in which matrices travel.
    """
    inputs, wanted = plan.steps.inputs, len(plan.steps.wanted)
    send = plan.sent if any(_moves(plan, leaf) for leaf in plan.leaves) else lambda x: x
    taken = []
    for k, (leaf, own) in enumerate(zip(plan.leaves, leaves, strict=True)):
        units = [send(x) for x in own[:inputs]]
        if params is not None:
            units = [sharded_alike(plan.mesh, x, params[k]) for x in units]
        units = [leaf.take(x) for x in units]
        states = zip(own[inputs:], plan.group.states, strict=True)
        taken.append([*units, *(x.reshape(leaf.units, *shape) for x, (shape, _) in states)])
    arrays = joined(taken)
    wide = plan.group.dtype
    arrays = [_sharded(plan, x).astype(wide) if i < inputs else x for i, x in enumerate(arrays)]
    new = plan.steps.run(plan.group, arrays, numbers)
    new = [_sharded(plan, send(x)) if i < wanted else x for i, x in enumerate(new)]
    done = []
    cuts = zip(*(cut(x, [leaf.units for leaf in plan.leaves]) for x in new), strict=True)
    for k, (leaf, own, parts) in enumerate(zip(plan.leaves, leaves, cuts, strict=True)):
        units = [leaf.put(x, leaf.shape) for x in parts[:wanted]]
        if params is not None:
            units = [sharded_alike(plan.mesh, x, params[k]) for x in units]
        states = zip(parts[wanted:], own[inputs:], strict=True)
        done.append(
            [*units, *(sharded_alike(plan.mesh, x.reshape(old.shape), old) for x, old in states)]
        )
    return done


def _sharded(plan: Plan, x: Rows) -> Rows:
    """Matrices `[batch, inputs, outputs]`, with the longer axis sharded over the whole mesh."""
    auto = jax.sharding.get_abstract_mesh()
    mesh = auto if auto.axis_names else plan.mesh
    spec = PartitionSpec(None, *(names or None for names in _long_spec(plan, x.shape[1:])))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def _long_spec(plan: Plan, unit: tuple[int, ...]) -> Spec:
    """The spec of one matrix whose longer axis is sharded over the whole mesh."""
    names = tuple(name for name, size in plan.mesh.shape.items() if size > 1)
    assert math.prod(plan.mesh.shape[name] for name in names) == plan.mesh.size
    return (names, ()) if unit[0] > unit[1] else ((), names)


def _moves(plan: Plan, leaf: UnitLeaf) -> bool:
    """Whether the matrices of a leaf may lie in another way than along their long axis."""
    return leaf.unit_spec != _long_spec(plan, leaf.unit)

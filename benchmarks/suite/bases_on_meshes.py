"""SOAP on sharded matrices: what eight devices send, compute and keep, counted in the compiled step."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives, products
from benchmarks.models import RATE, Tree
from benchmarks.programs import step_of
from benchmarks.registry import Number, at_most, benchmark
from benchmarks.suite.meshes import DEVICES, FLAGS, ONE, TWO, lowered

M, N, COUNT = 256, 512, 8
# For every layout: the mesh, the shape, the spec, the number of leaves, the goal for collectives on axes
# of the type Explicit, and the share of the products and of the state that a device has at most.
LAYOUTS: dict[str, Any] = {
    "last axis": (ONE, (M, N), P(None, "x"), COUNT, 6, 1 / DEVICES),
    "both axes, 4 x 2": (TWO, (M, N), P("x", "y"), COUNT, 12, 1 / DEVICES),
    "a stack, layer axis": (ONE, (COUNT, M, N), P("x"), 1, 0, 1 / DEVICES),
    "replicated": (ONE, (M, N), P(), COUNT, 1, None),
}
SOAP = gradtx.soap(RATE, precondition_frequency=1)


def params_of(layout: str, kind: str) -> Tree:
    """The shapes of the leaves, with their shardings."""
    (sizes, names), shape, spec, leaves, *_ = LAYOUTS[layout]
    mesh = jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(names))
    one = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    return {f"layer{i}": one for i in range(leaves)}


def alone() -> int:
    """The operations of a step on one device."""
    shapes = {f"layer{i}": jax.ShapeDtypeStruct((M, N), jnp.float32) for i in range(COUNT)}
    step = jax.jit(step_of(SOAP, gradtx.apply_updates))
    program = step.lower(shapes, jax.eval_shape(SOAP.init, shapes), shapes).compile()
    return products(program.as_text()).flops


def share_of_state(params: Tree) -> float:
    """The part of the state that a device keeps."""
    state = jax.tree.leaves(jax.eval_shape(SOAP.init, params))
    shardings = jax.tree.leaves(gradtx.state_shardings(SOAP, params))
    kept = [math.prod(s.shard_shape(x.shape)) for x, s in zip(state, shardings, strict=True)]
    return sum(kept) / sum(x.size for x in state)


def goals() -> dict[str, Any]:
    """The goals of `soap_on_meshes`, by case."""
    found = {}
    for layout, (*_, most, share) in LAYOUTS.items():
        found[f"{layout}, Explicit: collectives"] = at_most(most)
        for kind in ("Auto", "Explicit"):
            if share:
                found[f"{layout}, {kind}: products"] = at_most(1.02 * share)
                found[f"{layout}, {kind}: state"] = at_most(1.02 * share)
    return found


@benchmark(
    group="meshes",
    against="one device",
    goal=goals(),
    because="""A count: the way into the basis, the way back, and learning with a refresh take one
    exchange there and one back each, for every axis that is sharded. Each device then has its share of
    the work and of the state. Replicated matrices stay where they are, and share the refresh.""",
    xla_flags=FLAGS,
)
def soap_on_meshes(quick: bool) -> Iterator[Number]:
    """Step of soap that renews the bases of 8 matrices of 256 x 512, on 8 devices"""
    whole = alone()
    for layout in LAYOUTS:
        for kind in ("Auto", "Explicit"):
            params = params_of(layout, kind)
            text = lowered(SOAP, gradtx.apply_updates, params).compile().as_text()
            found, case = collectives(text), f"{layout}, {kind}"
            large = [c for c in found if c.bytes >= 4 * M]
            yield Number(f"{case}: collectives", sum(c.runs for c in large), "")
            yield Number(f"{case}: bytes sent", sum(c.sent for c in found), "B")
            yield Number(f"{case}: products", products(text).flops / whole, "ratio")
            yield Number(f"{case}: state", share_of_state(params), "ratio")

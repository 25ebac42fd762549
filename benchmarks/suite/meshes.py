"""Muon on sharded matrices: what eight devices send and compute, counted in the compiled step."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from benchmarks.hlo import collectives, lowered_collectives, products
from benchmarks.models import RATE, Tree, hidden_matrices
from benchmarks.programs import step_of
from benchmarks.registry import Number, at_most, benchmark
from benchmarks.suite.compilation import SAME

DEVICES = 8
FLAGS = f"--xla_force_host_platform_device_count={DEVICES}"
ONE, TWO = ((8,), ("x",)), ((4, 2), ("x", "y"))
M, N = 256, 1024
# For every layout: the mesh, the shape, the spec and the number of leaves, the goal for collectives of
# matrix size, and the goal for bytes as a share of Optax's, or None where Optax sends nothing or fails.
LAYOUTS: dict[str, Any] = {
    "last axis": (ONE, (M, N), P(None, "x"), 16, 2, 0.1),
    "first axis": (ONE, (M, N), P("x"), 16, 2, 0.05),
    "both axes, 4 x 2": (TWO, (M, N), P("x", "y"), 16, 4, 0.05),
    "replicated": (ONE, (M, N), P(), 16, 1, None),
    "last axis, 4 x 2 replicas": (TWO, (M, N), P(None, "x"), 16, 3, None),
    "a stack, layer axis": (ONE, (16, M, N), P("x"), 1, 0, None),
    "a stack, last axis": (ONE, (16, M, N), P(None, None, "x"), 1, 2, None),
    "13 matrices, last axis": (ONE, (M, N), P(None, "x"), 13, 2, None),
    "one matrix 256 x 4096, last axis": (ONE, (M, 4 * N), P(None, "x"), 1, 2, None),
}


def params_of(layout: str, kind: str) -> Tree:
    """The shapes of the leaves, with their shardings."""
    (sizes, names), shape, spec, leaves, *_ = LAYOUTS[layout]
    mesh = jax.make_mesh(sizes, names, axis_types=(AxisType[kind],) * len(names))
    one = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    return {f"layer{i}": one for i in range(leaves)}


def lowered(tx: Any, apply: Any, params: Tree) -> Any:
    """A step whose parameters and state keep their shardings."""
    shardings = gradtx.state_shardings(tx, params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
    )
    placed = jax.tree.map(lambda x: x.sharding, params), shardings
    return jax.jit(step_of(tx, apply), out_shardings=placed).lower(params, state, params)


def counted(tx: Any, apply: Any, params: Tree) -> tuple[int, float, float, int]:
    """Collectives of matrix size, all collectives, bytes that a device sends, and its operations."""
    text = lowered(tx, apply, params).compile().as_text()
    found = collectives(text)
    size = min(4 * min(x.shape[-2:]) ** 2 for x in jax.tree.leaves(params))
    large = sum(c.runs for c in found if c.bytes >= size)
    total, sent = sum(c.runs for c in found), sum(c.sent for c in found)
    return large, total, sent, products(text).flops


def alone(params: Tree) -> int:
    """The operations of a step on one device, which has the matrices of a stack one by one."""
    leaves = [x for x in jax.tree.leaves(params) for _ in range(math.prod(x.shape[:-2]))]
    shapes = {
        f"layer{i}": jax.ShapeDtypeStruct(x.shape[-2:], x.dtype) for i, x in enumerate(leaves)
    }
    tx = gradtx.muon(RATE, **SAME)
    step = jax.jit(step_of(tx, gradtx.apply_updates))
    program = step.lower(shapes, jax.eval_shape(tx.init, shapes), shapes).compile()
    return products(program.as_text()).flops


def numbers(case: str, params: Tree, peer: Any, ideal: int, stated: bool) -> Iterator[Number]:
    """The three numbers of one layout; `peer` is what was counted for Optax, or None."""
    large, total, sent, flops = counted(gradtx.muon(RATE, **SAME), gradtx.apply_updates, params)
    details: Any = {"all": (total, "events")} | ({"optax": (peer[1], "events")} if peer else {})
    yield Number(f"{case}: collectives", large, "events", details=details)
    if peer and peer[2]:
        details = {"gradtx": (sent, "B"), "optax": (peer[2], "B")}
        yield Number(f"{case}: bytes", sent / peer[2], "ratio", details=details)
    else:
        yield Number(f"{case}: bytes", sent, "B", stated=True)
    details = {"optax": (peer[3] / (ideal / DEVICES), "ratio")} if peer else {}
    share = flops / (ideal / DEVICES)
    yield Number(f"{case}: operations", share, "ratio", details=details, stated=stated)


def goals() -> dict[str, Any]:
    """The goals of `muon_on_meshes`, by case."""
    found: dict[str, Any] = {}
    for layout, (*_, most, share) in LAYOUTS.items():
        for kind in ("Auto", "Explicit"):
            found[f"{layout}, {kind}: collectives"] = at_most(most)
            found[f"{layout}, {kind}: operations"] = at_most(1.02)
            if share:
                found[f"{layout}, {kind}: bytes"] = at_most(share)
    return found | {"last axis, bfloat16: bytes": at_most(0.05)}


@benchmark(
    group="meshes",
    against="Optax on Auto axes",
    goal=goals(),
    because="""A count: a matrix that is sharded over one mesh axis is whole after one exchange, and goes
    back by another one. Each device then computes its share, so that a step takes an eighth of the
    operations of one device. Optax leaves the products to the compiler, which sends their results.""",
    xla_flags=FLAGS,
)
def muon_on_meshes(quick: bool) -> Iterator[Number]:
    """Muon for 16 matrices of 256 x 1024 on 8 devices: collectives, bytes and operations"""
    for layout, (*_, leaves, _, share) in LAYOUTS.items():
        peer, ideal = None, alone(params_of(layout, "Auto"))
        if share:
            theirs = optax.contrib.muon(RATE, consistent_rms=0.2)
            peer = counted(theirs, optax.apply_updates, params_of(layout, "Auto"))
        for kind in ("Auto", "Explicit"):
            stated = leaves == 13 or (leaves, layout[:3]) == (1, "one")
            params = params_of(layout, kind)
            yield from numbers(f"{layout}, {kind}", params, peer, ideal, stated)
        if layout == "last axis" and peer:
            half = gradtx.muon(RATE, **SAME, exchange_dtype="bfloat16")
            text = lowered(half, gradtx.apply_updates, params_of(layout, "Explicit")).as_text()
            sent = sum(c.sent for c in lowered_collectives(text))
            details: Any = {"gradtx": (sent, "B"), "optax": (peer[2], "B")}
            yield Number(f"{layout}, bfloat16: bytes", sent / peer[2], "ratio", details=details)


WIDTH, LAYERS = 512, 8
SHARDED = {"first axis": 0, "last axis": 1, "largest axis": None}


def layers_of(where: int | None, kind: str) -> Tree:
    """The hidden matrices of eight layers, each sharded along one axis."""
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(AxisType[kind],))

    def sharded(x: Any) -> Any:
        axis = x.shape.index(max(x.shape)) if where is None else where
        sharding = NamedSharding(mesh, P("x") if axis == 0 else P(None, "x"))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(sharded, hidden_matrices(WIDTH, LAYERS))


@benchmark(
    group="meshes",
    against="Optax on Auto axes",
    goal={
        f"{layout}, {kind}: {what}": goal
        for layout in SHARDED
        for kind in ("Auto", "Explicit")
        for what, goal in (
            ("collectives", at_most(6 if kind == "Auto" or layout != "largest axis" else 4)),
            ("bytes", at_most(0.05)),
            ("operations", at_most(1.02)),
        )
    },
    because="""A count: squares, wide and tall matrices are three groups with two exchanges each. On
    Explicit axes, tall matrices that are sharded along their largest axis are turned and join the wide
    ones. 48 matrices are shared equally by 8 devices.""",
    xla_flags=FLAGS,
)
def muon_on_a_mesh_of_layers(quick: bool) -> Iterator[Number]:
    """Muon for 8 layers of width 512 on 8 devices: collectives, bytes and operations"""
    ideal = alone(layers_of(0, "Auto"))
    for layout, where in SHARDED.items():
        theirs = optax.contrib.muon(RATE, consistent_rms=0.2)
        peer = counted(theirs, optax.apply_updates, layers_of(where, "Auto"))
        for kind in ("Auto", "Explicit"):
            yield from numbers(f"{layout}, {kind}", layers_of(where, kind), peer, ideal, False)

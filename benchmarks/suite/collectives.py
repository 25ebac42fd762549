"""Collective operations in the program of a step whose parameters are sharded over eight devices."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from benchmarks.models import RATE, Tree, hidden_matrices
from benchmarks.programs import step_of
from benchmarks.registry import Number, at_most, benchmark
from benchmarks.suite.compilation import SAME

# An asynchronous operation counts once, by its start.
COLLECTIVE = re.compile(
    r" (?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
DEVICES = 8


def sharded(tree: Tree) -> Tree:
    """Matrices whose first axis is sharded over all devices; other arrays are replicated."""
    mesh = jax.make_mesh((DEVICES,), ("devices",), axis_types=(AxisType.Auto,))
    rows, everywhere = (NamedSharding(mesh, x) for x in (PartitionSpec("devices"), PartitionSpec()))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=rows if x.ndim > 1 else everywhere
        ),
        tree,
    )


def collectives(tx: Any, apply: Any) -> int:
    """Count the collectives of a step that keeps the shardings of parameters and state."""
    params = sharded(hidden_matrices(512, 2))
    state = sharded(jax.eval_shape(tx.init, params))
    placed = jax.tree.map(lambda x: x.sharding, (params, state))
    step = jax.jit(step_of(tx, apply), out_shardings=placed)
    return len(COLLECTIVE.findall(step.lower(params, state, params).compile().as_text()))


@benchmark(
    group="collectives",
    against="Optax",
    goal={"adamw": at_most(0), "adamw with clipping": at_most(3), "muon": at_most(24)},
    because="""A bound: AdamW works on each number by itself. The norm of all gradients is one sum
    over the devices; the branch for norms that overflow has a maximum and a sum of its own. Muon
    needs whole matrices: each of 12 is exchanged once and its update is sent back once.""",
    xla_flags=f"--xla_force_host_platform_device_count={DEVICES}",
)
def collectives_of_a_step(quick: bool) -> Iterator[Number]:
    """Collective operations of a step with 12 matrices, sharded over 8 devices"""
    clipped = [x.chain(x.clip_by_global_norm(1.0), x.adamw(RATE)) for x in (gradtx, optax)]
    cases = {
        "adamw": (gradtx.adamw(RATE), optax.adamw(RATE)),
        "adamw with clipping": clipped,
        "muon": (gradtx.muon(RATE, **SAME), optax.contrib.muon(RATE, consistent_rms=0.2)),
    }
    for case, (ours, theirs) in cases.items():
        count = collectives(ours, gradtx.apply_updates)
        details: Any = {"optax": (collectives(theirs, optax.apply_updates), "events")}
        yield Number(case, count, "events", details=details)

"""Bytes that a step moves and memory that it takes beside its arguments, as XLA states them."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

import gradtx
from benchmarks.models import RATE, Tree, both, gpt2, parameters, size
from benchmarks.programs import Program, build, build_step
from benchmarks.registry import Number, at_most, benchmark

# The bytes that a step fused by hand moves per float32 parameter on XLA:CPU, and the memory that it
# takes, in copies of the parameters. XLA:CPU makes a loop of its own for every output, so that what two
# outputs need is read twice, or is stored if it is expensive (the square root in AdaDelta).
FUSED_BYTES = {"sgd": 24, "adamw": 40, "adagrad": 28, "rmsprop": 28, "adadelta": 56}
FUSED_COPIES = {"sgd": 0, "adamw": 0, "adagrad": 0, "rmsprop": 0, "adadelta": 1}
SCALARS = 1e-3  # copies of the parameters; far more than the few scalars of a step take
CLIPPED = "adamw with clipping"


def leaves() -> Tree:
    """Sixteen leaves of a size at which scalars do not count."""
    return parameters(16, 256, 1024)


def step_programs(name: str, params: Tree) -> list[Program]:
    """The steps of gradtx and of Optax."""
    return [build_step(tx, apply, params) for tx, apply in both(name)]


def clipped_programs(params: Tree) -> list[Program]:
    """The steps of AdamW behind clipping, of gradtx and of Optax."""
    return [
        build_step(x.chain(x.clip_by_global_norm(1.0), x.adamw(RATE)), x.apply_updates, params)
        for x in (gradtx, optax)
    ]


@benchmark(
    group="memory",
    against="steps fused by hand",
    goal={name: at_most(count + 0.1) for name, count in FUSED_BYTES.items()},
    because="""A bound: every input is read and every output is written once for each loop of
    XLA:CPU. The tenth of a byte is for scalars.""",
)
def bytes_per_parameter(quick: bool) -> Iterator[Number]:
    """Bytes moved by a jitted step"""
    params = leaves()
    for name in FUSED_BYTES:
        ours, theirs = (p.bytes / size(params) for p in step_programs(name, params))
        details: Any = {"optax": (theirs, "B per parameter")}
        yield Number(name, ours, "B per parameter", details=details)


@benchmark(
    group="memory",
    against="Optax",
    goal=at_most(0.735),
    because="""A count: without the clipped gradients, which Optax writes and reads again, 44 of 60
    bytes per parameter are left.""",
)
def bytes_with_clipping(quick: bool) -> Iterator[Number]:
    """Bytes moved by a jitted step of adamw behind clip_by_global_norm"""
    params = leaves()
    ours, theirs = clipped_programs(params)
    # XLA counts the more expensive branch of a condition: here the branch for norms that overflow.
    branch = build(scaled_norm, jax.tree.leaves(params)).bytes
    bytes_moved = {"gradtx": ours.bytes - branch, "optax": theirs.bytes}
    details: Any = {k: (v / size(params), "B per parameter") for k, v in bytes_moved.items()}
    value = bytes_moved["gradtx"] / bytes_moved["optax"]
    yield Number("16 leaves", value, "ratio", details=details)


def scaled_norm(leaves: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """A norm in which no square can overflow: the largest entry, and the norm of the rest by it."""
    unit = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in leaves]))
    return unit, jnp.sqrt(sum(jnp.sum(jnp.square(x / unit)) for x in leaves))


@benchmark(
    group="memory",
    against="steps fused by hand",
    goal={name: at_most(copies + SCALARS) for name, copies in FUSED_COPIES.items()}
    | {CLIPPED: at_most(1 / 16 + SCALARS)},
    because="""A bound: a step needs no memory beside its arguments but for AdaDelta's square root,
    and clipping holds one of sixteen leaves in its branch for norms that overflow.""",
)
def temporary_copies(quick: bool) -> Iterator[Number]:
    """Temporary memory of a jitted step, in copies of the parameters"""
    params = leaves()
    for name in (*FUSED_COPIES, CLIPPED):
        programs = clipped_programs(params) if name == CLIPPED else step_programs(name, params)
        ours, theirs = (p.temporary_bytes / (4 * size(params)) for p in programs)
        details: Any = {"optax": (theirs, "copies")}
        yield Number(name, ours, "copies", details=details)


@benchmark(
    group="memory",
    against="Optax",
    goal={"124M parameters": at_most(2.5 * 2**28)},
    because="""Matrices of one shape are taken in groups of at most 256 MiB. A product needs its
    operand and its result, and half a group is left for what XLA does not free in time: 2.5
    groups.""",
)
def muon_temporary_memory(quick: bool) -> Iterator[Number]:
    """Temporary memory of a jitted step of muon"""
    shapes = gpt2()
    ours = build_step(gradtx.muon(RATE), gradtx.apply_updates, shapes)
    peer = optax.contrib.muon(RATE, consistent_rms=0.2)
    theirs = build_step(peer, optax.apply_updates, shapes)
    details: Any = {"optax": (theirs.temporary_bytes, "B")}
    yield Number("124M parameters", ours.temporary_bytes, "B", details=details)
    if jax.default_backend() == "cpu":
        options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
        least = ours.lowered.compile(options).memory_analysis().temp_size_in_bytes
        yield Number("124M parameters, scheduled for memory", least, "B", stated=True)

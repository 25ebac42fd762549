"""Jitted and donated steps of elementwise optimizers, beside Optax and a step fused by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from benchmarks.measure import Run, interleaved, ratio
from benchmarks.models import OPTIMIZERS, RATE, Tree, both, gradients, parameters
from benchmarks.programs import build_step, running
from benchmarks.registry import Number, at_most, benchmark

# A step over lists: (params, moments, scalars, gradients) -> (params, moments, scalars).
Step = Callable[[Tree, Any, Any, Tree], Any]
PARITY = """Both sides read and write the same bytes, so that neither can be faster. 1.01 is about the
least difference that a hundred rounds show."""


def step_over_lists(tx: Any, apply: Any, peer: Any) -> tuple[Step, list[Any]]:
    """A step whose moments are those of Optax's `peer`, in its order, and the first scalars.

    So one set of buffers serves every candidate. Which moment is which is told by their values after a
    step on small arrays.
    """
    small = parameters(2, 4, 4)
    leaves, structure = jax.tree.flatten(tx.init(small))
    own, others = (
        jax.tree.leaves(x.update(gradients(small), x.init(small), small)[1]) for x in (tx, peer)
    )
    arrays = [i for i, x in enumerate(own) if x.ndim == 2]
    scalars = [i for i, x in enumerate(own) if x.ndim < 2]
    moments = [
        min(arrays, key=lambda i: float(jnp.abs(own[i] - x).sum())) for x in others if x.ndim == 2
    ]
    assert sorted(moments) == arrays, "the two libraries keep different moments"

    def step(params: Tree, held: Any, rest: Any, grads: Tree) -> Any:
        at = dict(zip(moments + scalars, [*held, *rest], strict=True))
        state = structure.unflatten([at[i] for i in range(len(leaves))])
        updates, state = tx.update(grads, state, params)
        new = jax.tree.leaves(state)
        return apply(params, updates), [new[i] for i in moments], [new[i] for i in scalars]

    return step, [leaves[i] for i in scalars]


def fused_adamw(params: Tree, moments: Any, scalars: Any, grads: Tree) -> Any:
    """AdamW written out by hand, as one map over the tree."""
    leaves, structure = jax.tree.flatten(params)
    count = scalars[0] + 1
    time = count.astype(jnp.float32)
    gain1, gain2 = -jnp.expm1(time * jnp.log(0.9)), -jnp.expm1(time * jnp.log(0.999))
    g = jax.tree.leaves(grads)
    mu = [m + (1 - 0.9) * (g - m) for m, g in zip(moments[: len(g)], g, strict=True)]
    nu = [v + (1 - 0.999) * (g * g - v) for v, g in zip(moments[len(g) :], g, strict=True)]
    leaves = [
        p - RATE * (m / gain1 / (jnp.sqrt(v / gain2) + 1e-8) + 1e-4 * p)
        for p, m, v in zip(leaves, mu, nu, strict=True)
    ]
    return structure.unflatten(leaves), [*mu, *nu], [count]


def side_by_side(candidates: list[tuple[Step, list[Any]]], peer: Any, rounds: int) -> np.ndarray:
    """Seconds `[candidates, rounds]` of steps of two leaves of 2048 x 2048 on one set of buffers.

    Buffers of their own differ by 12% by their place in memory alone. The gradients are an argument, so
    that nothing is computed before the step.
    """
    params = parameters(2, 2048, 2048)
    moments = [x for x in jax.tree.leaves(peer.init(params)) if x.ndim == 2]
    grads = gradients(params)

    def runs(step: Step, scalars: list[Any]) -> Run:
        jitted = jax.jit(step, donate_argnums=(0, 1, 2))
        program = jitted.lower(params, moments, scalars, grads).compile()
        scalars = jax.tree.map(jnp.copy, scalars)

        def run() -> Any:
            nonlocal params, moments, scalars
            params, moments, scalars = program(params, moments, scalars, grads)
            return params, moments

        return run

    places = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, moments))]
    times = interleaved(rounds, *(runs(*candidate) for candidate in candidates))
    assert places == [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, moments))]
    return times


def beside_optax(quick: bool) -> Iterator[Number]:
    """Every optimizer beside Optax's; Optax runs twice, and its ratio to itself shows the noise."""
    for name in OPTIMIZERS:
        ours, theirs = both(name)
        sides = [step_over_lists(*side, theirs[0]) for side in (ours, theirs, theirs)]
        times = side_by_side(sides, theirs[0], 20 if quick else 100)
        number = ratio(name, times[0], times[1])
        itself = float(np.median(times[2] / times[1])), "ratio"
        yield number._replace(details={**number.details, "optax to itself": itself})


@benchmark(group="steps", against="Optax", goal=at_most(1.01), because=PARITY)
def jitted_step(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of two leaves of 2048 x 2048"""
    yield from beside_optax(quick)


def no_avx512() -> str:
    info = Path("/proc/cpuinfo")
    wide = info.exists() and "avx512" in info.read_text()
    return "" if wide else "This processor has nothing beyond AVX2."


@benchmark(
    group="steps",
    against="Optax",
    goal=at_most(1.01),
    because="The same bound, with the instructions that every processor of the last ten years has.",
    skip=no_avx512,
    xla_flags="--xla_cpu_max_isa=AVX2",
)
def jitted_step_avx2(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of two leaves of 2048 x 2048, with AVX2"""
    yield from beside_optax(quick)


@benchmark(group="steps", against="steps fused by hand", goal=at_most(1.01), because=PARITY)
def jitted_step_by_hand(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of two leaves of 2048 x 2048"""
    ours, theirs = both("adamw")
    sides = [step_over_lists(*ours, theirs[0]), (fused_adamw, [jnp.int32(0)])]
    times = side_by_side(sides, theirs[0], 20 if quick else 100)
    yield ratio("adamw", *times, peer="by hand")


@benchmark(
    group="steps",
    against="Optax",
    goal=at_most(0.73),
    because="""Optax writes the clipped gradients and reads them again. Without that, 44 of 60 bytes
    per parameter are left, and a step on a CPU takes as long as its bytes.""",
)
def jitted_step_with_clipping(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of adamw behind clip_by_global_norm"""
    params = parameters(16, 256, 1024) if quick else parameters(16, 1024, 1024)
    runs = []
    for library in (gradtx, optax):
        tx = library.chain(library.clip_by_global_norm(1.0), library.adamw(RATE))
        program = build_step(tx, library.apply_updates, params)
        runs.append(running(program, params, tx.init(params), gradients(params)))
    yield ratio("16 leaves", *interleaved(7 if quick else 21, *runs))

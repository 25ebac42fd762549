"""CPU time to trace, lower and compile a step, beside Optax."""

from collections.abc import Iterator

import numpy as np
import optax

import gradtx
from benchmarks.measure import ratio
from benchmarks.models import RATE, Tree, abstract, both, gpt2, hidden_matrices
from benchmarks.programs import Program, build_step
from benchmarks.registry import Number, at_most, benchmark

# Optax's default coefficients, so that both sides do the same steps.
SAME = {"coefficients": "jordan", "steps": 5}


def muon_programs(shapes: Tree) -> tuple[Program, Program]:
    """A step of muon by gradtx and by Optax, with the same polynomials."""
    peer = optax.contrib.muon(RATE, consistent_rms=0.2)
    return (
        build_step(gradtx.muon(RATE, **SAME), gradtx.apply_updates, shapes),
        build_step(peer, optax.apply_updates, shapes),
    )


@benchmark(
    group="compilation",
    against="Optax",
    goal=at_most(1.1),
    because="""What gradtx saves in tracing may pay for the guards that XLA has to compile. A tenth
    more in all is a difference that nobody notices. The parts are stated.""",
)
def compile_adamw(quick: bool) -> Iterator[Number]:
    """CPU time to trace, lower and compile a donated step of adamw"""
    small = abstract({"small": (2, 2)})
    trees = {"1,000 leaves": abstract({f"leaf{i}": (256,) for i in range(1000)}), "GPT-2": gpt2()}
    for case, params in trees.items():
        times = np.zeros((2, 2, 3 if quick else 4))  # [side, part, round]
        for turn in range(times.shape[2]):
            for side, (tx, apply) in enumerate(both("adamw")):
                program = build_step(tx, apply, params if turn else small)
                times[side, :, turn] = program.trace_seconds, program.compile_seconds
        ours, theirs = times[:, :, 1:]
        yield ratio(case, ours.sum(0), theirs.sum(0))
        for part, own, peer in zip(("trace and lower", "compile"), ours, theirs, strict=True):
            yield ratio(f"{case}: {part}", own, peer, stated=True)


@benchmark(
    group="compilation",
    against="Optax",
    goal=at_most(0.4),
    because="""A measurement: version 0.1 took 0.38 to 0.39 on two machines. Compile time grows with
    the products in the program, of which Optax has twenty times as many.""",
)
def compile_muon(quick: bool) -> Iterator[Number]:
    """CPU time to compile a step of muon"""
    shapes = hidden_matrices(512, 8)
    pairs = [muon_programs(shapes) for _ in range(2 if quick else 5)]
    seconds = np.array([[program.compile_seconds for program in pair] for pair in pairs]).T
    yield ratio("8 layers, d=512", *seconds)


@benchmark(
    group="compilation",
    against="Optax",
    goal=at_most(51),
    because="""A count: one batch per shape needs 15 products for squares and 18 for each of two
    rectangles. Optax needs 15 for each of 48 matrices.""",
)
def products_of_muon(quick: bool) -> Iterator[Number]:
    """Matrix products in the program of muon"""
    ours, theirs = muon_programs(hidden_matrices(512, 8))
    details = {"optax": (theirs.products, "products")}
    yield Number("8 layers, d=512", ours.products, "products", details=details)

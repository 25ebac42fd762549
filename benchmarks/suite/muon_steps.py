"""Steps of Muon beside Optax: time and floating-point operations."""

from collections.abc import Iterator
from typing import Any

import optax

import gradtx
from benchmarks.measure import Run, interleaved, ratio
from benchmarks.models import RATE, Tree, hidden_matrices, normal
from benchmarks.programs import Program, running
from benchmarks.registry import Number, at_most, benchmark
from benchmarks.suite.compilation import SAME, muon_programs


def muon_runs(program: Program, tx: Any, shapes: Tree) -> Run:
    """Steps of the program on normal parameters and gradients."""
    params = normal(shapes, 0)
    return running(program, params, tx.init(params), normal(shapes, 1))


@benchmark(
    group="muon",
    against="Optax",
    goal=at_most(0.48),
    because="""A measurement: version 0.1 took 0.33 to 0.34 on two machines, by 0.8 of the
    operations and by products at twice the speed. 0.48 leaves room for processors whose products
    differ less.""",
)
def muon_step(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of muon"""
    shapes = hidden_matrices(512, 3)
    programs = muon_programs(shapes)
    sides = gradtx.muon(RATE, **SAME), optax.contrib.muon(RATE, consistent_rms=0.2)
    runs = (muon_runs(p, tx, shapes) for p, tx in zip(programs, sides, strict=True))
    yield ratio("3 layers, d=512", *interleaved(3 if quick else 9, *runs))


@benchmark(
    group="muon",
    against="Optax",
    goal={"3 layers, d=512": at_most(0.801), "1 layer, d=768": at_most(0.661)},
    because="""A count, in products of d x d matrices: Optax takes 15 for each of four squares and
    45 for each of two rectangles, gradtx 15 and 30: 120 of 150. From 768 rows on a quarter of each
    symmetric product is mirrored, which leaves 12.5 and 24.5: 99 of 150.""",
)
def muon_operations(quick: bool) -> Iterator[Number]:
    """Floating-point operations of a step of muon"""
    for case, shapes in (
        ("3 layers, d=512", hidden_matrices(512, 3)),
        ("1 layer, d=768", hidden_matrices(768, 1)),
    ):
        ours, theirs = muon_programs(shapes)
        yield Number(case, ours.flops / theirs.flops, "ratio")

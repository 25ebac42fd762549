"""What taps cost: AdamW on the tree of GPT-2 small with a tap behind every stage, and without."""

from collections.abc import Iterator
from typing import Any

import gradtx
from benchmarks.measure import interleaved, ratio
from benchmarks.models import RATE, abstract, gpt2, gradients, normal, size
from benchmarks.programs import build_step, running
from benchmarks.registry import Number, at_most, benchmark

ADAMW = gradtx.adamw(RATE)
TAPPED = {
    "a tap before": gradtx.chain(gradtx.tap("grads"), ADAMW),
    "taps before and after": gradtx.chain(gradtx.tap("grads"), ADAMW, gradtx.tap("updates")),
    "observe": gradtx.observe(ADAMW),
}
STATED = """There is no peer, so the cost is stated: a norm of the gradients reads 4 bytes per parameter.
XLA:CPU computes a norm of the updates in a loop of its own, which reads again what the step has read."""


@benchmark(group="taps", against="AdamW without taps", goal=None, because=STATED)
def step_with_observe(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of adamw with taps, GPT-2 small"""
    shapes = abstract({"w": (1024, 1024), "b": (1024,)}) if quick else gpt2()
    params, runs = normal(shapes, 0), []
    grads = gradients(params)
    for tx in (ADAMW, *TAPPED.values()):
        program = build_step(tx, gradtx.apply_updates, shapes)
        runs.append(running(program, params, tx.init(params), grads))
    times = interleaved(3 if quick else 7, *runs)
    for i, case in enumerate(TAPPED, 1):
        yield ratio(case, times[i], times[0], peer="without", stated=True)


@benchmark(group="taps", against="AdamW without taps", goal=None, because=STATED)
def bytes_with_observe(quick: bool) -> Iterator[Number]:
    """Bytes moved by a jitted step of adamw with taps, GPT-2 small"""
    shapes = gpt2()
    plain = build_step(ADAMW, gradtx.apply_updates, shapes)
    for case, tx in TAPPED.items():
        program = build_step(tx, gradtx.apply_updates, shapes)
        moved, copies = program.bytes / size(shapes), program.temporary_bytes / (4 * size(shapes))
        details: Any = {"without": (plain.bytes / size(shapes), "B per parameter")}
        details |= {"temporary memory": (copies, "copies")}
        yield Number(case, moved, "B per parameter", details=details, stated=True)


@benchmark(
    group="taps",
    against="AdamW without taps",
    goal=at_most(1.0),
    because="A tap that is off leaves the compiled program unchanged, so that no byte is added.",
)
def bytes_of_taps_that_are_off(quick: bool) -> Iterator[Number]:
    """Bytes moved by a jitted step of adamw with taps that are off"""
    shapes = abstract({"w": (1024, 1024), "b": (1024,)})
    plain = build_step(ADAMW, gradtx.apply_updates, shapes)
    off = build_step(gradtx.observe(ADAMW, active=False), gradtx.apply_updates, shapes)
    yield Number("observe", off.bytes / plain.bytes, "ratio")

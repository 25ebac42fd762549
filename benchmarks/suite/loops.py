"""Un-jitted loops in which a hyperparameter changes at every step."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import gradtx
from benchmarks.measure import clock, median_interval
from benchmarks.models import RATE, both, gradients, parameters
from benchmarks.registry import Number, at_most, benchmark

COMPILED = "/jax/core/compile/backend_compile_duration"
FIELDS = {"learning_rate": (RATE, 1e-7), "b2": (0.99, 1e-6)}  # the first value and its change
SEGMENTS = 5


class Loop(NamedTuple):
    """The compilations after the first twenty steps, and seconds and bytes per step by segment."""

    compilations: int
    seconds: list[float]
    bytes_kept: list[float]


def run_loop(
    renewed: Callable[[Any, float], Any], tx: Any, apply: Any, field: str, steps: int
) -> Loop:
    """Take twenty steps to warm up and then the measured ones, each with a new value of the field."""
    params, grads = parameters(10, 64, 64), gradients(parameters(10, 64, 64))
    state, (value, change) = tx.init(params), FIELDS[field]
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event)
    )
    seconds, kept = [], []
    for count in (20, *[steps // SEGMENTS] * SEGMENTS):
        gc.collect()
        if not seconds:
            compiled.clear()
        memory, start = resident_bytes(), clock()
        for _ in range(count):
            value += change
            tx = renewed(tx, value)
            updates, state = tx.update(grads, state, params)
            params = jax.block_until_ready(apply(params, updates))
        seconds.append((clock() - start) / count)
        gc.collect()
        kept.append((resident_bytes() - memory) / count)
        if len(seconds) == 1:
            compiled.clear()
    return Loop(compiled.count(COMPILED), seconds[1:], kept[1:])


def resident_bytes() -> int:
    """Bytes of this process in memory, as Linux states them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def no_proc() -> str:
    return (
        ""
        if Path("/proc/self/statm").exists()
        else "The memory of a process is read on Linux only."
    )


LIMITS = {"compilations": 0, "memory kept per step": 10 * 2**10}
GOALS = {f"{field}: {what}": at_most(x) for field in FIELDS for what, x in LIMITS.items()}


@benchmark(
    group="loops",
    against="Optax, built anew at every step",
    goal=GOALS,
    because="""Nothing may be compiled after twenty steps, and nothing kept: in Optax's loop the
    noise of the allocator comes to 10 KiB per step. The time is stated.""",
    skip=no_proc,
)
def changing_hyperparameter(quick: bool) -> Iterator[Number]:
    """An un-jitted loop over a hyperparameter of adamw, with 10 leaves"""
    for field in FIELDS:
        steps = 100 if quick else 1000
        ours, theirs = both("adamw")
        peer = run_loop(
            lambda _, x, f=field: optax.adamw(**{"learning_rate": RATE, f: x}),
            *theirs,
            field,
            steps,
        )
        own = run_loop(lambda tx, x, f=field: gradtx.replace(tx, **{f: x}), *ours, field, steps)
        details: Any = {"optax": (peer.compilations, "events")}
        yield Number(f"{field}: compilations", own.compilations, "events", details=details)
        details = {"optax": (float(np.median(peer.bytes_kept)), "B")}
        kept = median_interval(own.bytes_kept)
        yield Number(f"{field}: memory kept per step", kept[0], "B", *kept[1:], details=details)
        details = {"optax": (float(np.median(peer.seconds)), "s")}
        taken = median_interval(own.seconds)
        yield Number(f"{field}: time per step", taken[0], "s", *taken[1:], details, stated=True)

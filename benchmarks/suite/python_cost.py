"""What Python spends: on a first trace, on an un-jitted step, and on tables asked for at a prompt."""

import os
import sys
from collections.abc import Iterator
from time import process_time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks.measure import Run, interleaved, median_interval, ratio
from benchmarks.models import RATE, both, gradients, llama_70b, parameters
from benchmarks.programs import step_of, trace
from benchmarks.registry import Number, at_most, benchmark


def calls_of_a_first_trace(name: str, leaves: int) -> Iterator[Number]:
    """Count the Python calls into gradtx's files while `update` and `apply_updates` are traced.

    The traced transformation is a new value, and its state comes from the `init` of an equal one. The
    construction and `init` are not counted, and neither are calls inside of JAX.
    """
    tree = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3), "embedding": jnp.ones((10, 4))}
    params = {key: tree[key] for key in list(tree)[:leaves]}
    state = getattr(gradtx, name)(RATE).init(params)
    step = jax.jit(step_of(getattr(gradtx, name)(RATE), gradtx.apply_updates))
    folder, count = os.path.dirname(gradtx.__file__) + os.sep, 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(folder)

    sys.setprofile(profile)
    step.trace(params, state, params)
    sys.setprofile(None)
    yield Number(f"{name}, {leaves} leaves", count, "calls")


@benchmark(
    group="python",
    against="version 0.1",
    goal=at_most(578),
    because="Half of the 1,157 calls of version 0.1, many of which asked the same question again.",
)
def calls_of_adamw(quick: bool) -> Iterator[Number]:
    """Python calls into gradtx during a first trace"""
    yield from calls_of_a_first_trace("adamw", 2)


@benchmark(
    group="python",
    against="version 0.1",
    goal=at_most(948),
    because="""Half of the 1,896 calls of version 0.1. A process counts one optimizer only, since
    a second one finds full caches.""",
)
def calls_of_muon(quick: bool) -> Iterator[Number]:
    """Python calls into gradtx during a first trace"""
    yield from calls_of_a_first_trace("muon", 2)


@benchmark(
    group="python",
    against="version 0.1",
    goal=at_most(1053),
    because="Half of the 2,107 calls of version 0.1. The third leaf goes to the other optimizer.",
)
def calls_of_muon_with_embedding(quick: bool) -> Iterator[Number]:
    """Python calls into gradtx during a first trace"""
    yield from calls_of_a_first_trace("muon", 3)


@benchmark(
    group="python",
    against="Optax",
    goal=at_most(0.4),
    because="""A measurement: version 0.1 took 0.27, since gradtx traces one function per shape and Optax
    one operation per leaf. 0.4 leaves room for noise.""",
)
def trace_time(quick: bool) -> Iterator[Number]:
    """CPU time to trace and lower a step of adamw"""
    params = parameters(400, 64, 4)
    grads, times = gradients(params), [[], []]
    for _ in range(3 if quick else 8):
        for seconds, (tx, apply) in zip(times, both("adamw"), strict=True):
            seconds.append(trace(step_of(tx, apply), params, tx.init(params), grads)[0])
    yield ratio("400 leaves", times[0][1:], times[1][1:])


@benchmark(
    group="python",
    against="Optax",
    goal=at_most(0.2),
    because="""Optax's update of AdamW dispatches about 15 operations per leaf, and gradtx one
    compiled function that costs as much as a few. `apply_updates`, which both dispatch per leaf, is
    stated.""",
)
def unjitted_step(quick: bool) -> Iterator[Number]:
    """Time of an un-jitted step of adamw, five in a row"""

    def five(tx: Any, apply: Any, params: Any, whole: bool) -> Run:
        grads, first = gradients(params), tx.init(params)

        def run() -> Any:
            now, state = params, first
            for _ in range(5):
                updates, state = tx.update(grads, state, now)
                now = apply(now, updates) if whole else now
            return now, state

        return run

    for leaves, whole in ((100, False), (400, False), (100, True)):
        params = parameters(leaves, 64, 4)
        runs = (five(*side, params, whole) for side in both("adamw"))
        times = interleaved(5 if quick else 21, *runs) / 5
        what = "update and apply_updates" if whole else "update"
        yield ratio(f"{what}, {leaves} leaves", *times, stated=whole)


@benchmark(
    group="python",
    against="one flat chain",
    goal=at_most(1.2),
    because="""Nesting is notation and should cost nothing. 0.2 is left for one visit to each chain and
    for noise. A library that visits each nested link twice makes 2^50 visits.""",
)
def nested_chain(quick: bool) -> Iterator[Number]:
    """Time of adamw with fifty links, each in a chain around the chain before"""
    params, numbers = parameters(2, 4, 3), iter(np.linspace(0.4, 0.6, 10_000).tolist())
    grads = gradients(params)

    def built(flat: bool) -> Any:
        # Each value has a number that no other value has, so that no cache knows it.
        tx, number = gradtx.adamw(RATE), next(numbers)
        links = [gradtx.scale(number) for _ in range(50)]
        for link in () if flat else links:
            tx = gradtx.chain(tx, link)
        return gradtx.chain(tx, *links) if flat else tx

    def updates(tx: Any) -> Run:
        state = tx.init(params)
        return lambda: [tx.update(grads, state, params) for _ in range(50)]

    # First, since numbers are constants of the first three values only and then become arguments.
    runs = [updates(built(flat)) for flat in (False, True)]
    yield ratio("un-jitted update", *interleaved(15 if quick else 41, *runs), peer="flat")
    times: tuple[list[float], list[float]] = [], []
    for _ in range(6 if quick else 16):
        for flat, seconds in enumerate(times):
            state = built(bool(flat)).init(params)
            seconds.append(trace(built(bool(flat)).update, grads, state, params)[0])
    yield ratio("trace and lower", times[0][1:], times[1][1:], peer="flat")


@benchmark(
    group="python",
    against="a limit",
    goal=at_most(2),
    because="People call both at a prompt; a wait of two seconds does not interrupt them.",
)
def tables_of_muon(quick: bool) -> Iterator[Number]:
    """CPU time of `summarize` and `routing` of muon for 723 leaves of a 70B model"""
    params = llama_70b()
    for name in ("summarize", "routing"):
        seconds = []
        for i in range(2 if quick else 4):
            tx = gradtx.muon(RATE * (1 + i))  # a new value, which no cache knows
            start = process_time()
            repr(getattr(gradtx, name)(tx, params))
            seconds.append(process_time() - start)
        value, low, high = median_interval(seconds)
        yield Number(name, value, "s", low, high)

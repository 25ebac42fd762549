"""Time, measured as ratios: both sides run in turn in one process, so that a slow machine slows both."""

import gc
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.registry import Number

Run = Callable[[], Any]
# With "process_time" only the time counts that this process computes, whatever else the machine does.
clock: Callable[[], float] = getattr(time, os.environ.get("BENCHMARK_CLOCK", "perf_counter"))


def interleaved(rounds: int, *runs: Run) -> np.ndarray:
    """Seconds `[runs, rounds]` of every run in every round, after one round to warm up.

    The order A B C, B C A, C A B ... gives every run each place in the round equally often. The garbage
    collector waits until the end.
    """
    times = np.zeros((len(runs), rounds))
    gc.collect()
    gc.disable()
    for turn in range(-1, rounds):
        for place in range(len(runs)):
            k = (turn + place) % len(runs)
            start = clock()
            jax.block_until_ready(runs[k]())
            times[k, turn] = clock() - start
    gc.enable()
    return times


def median_interval(samples: Any) -> tuple[float, float, float]:
    """The median, and the 95% bootstrap interval of the median."""
    samples = np.asarray(samples, float)
    drawn = np.random.default_rng(0).choice(samples, (4000, len(samples)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(samples)), float(low), float(high)


def ratio(case: str, ours: Any, theirs: Any, peer: str = "optax", stated: bool = False) -> Number:
    """The median over the rounds of our time by the peer's time in the same round."""
    value, low, high = median_interval(np.asarray(ours) / np.asarray(theirs))
    details = {"gradtx": float(np.median(ours)), peer: float(np.median(theirs))}
    seconds = {name: (taken, "s") for name, taken in details.items()}
    return Number(case, value, "ratio", low, high, seconds, stated)


def median_time(case: str, seconds: Any, stated: bool = False) -> Number:
    """The median of the seconds, with its interval."""
    value, low, high = median_interval(seconds)
    return Number(case, value, "s", low, high, stated=stated)

"""Muon beside torch.optim.Muon: the same shapes and steps, in processes of both libraries in turn."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from benchmarks.measure import clock, interleaved, ratio
from benchmarks.models import RATE, hidden_matrices
from benchmarks.programs import build_step
from benchmarks.registry import Number, at_most, benchmark
from benchmarks.suite.compilation import SAME
from benchmarks.suite.muon_steps import muon_runs

TORCH = "BENCHMARK_TORCH"  # names an interpreter that has torch


def no_torch() -> str:
    return "" if os.environ.get(TORCH) else "--torch names an interpreter that has torch."


@benchmark(
    group="muon",
    against="torch",
    goal={"float32": at_most(0.75)},
    because="""A count: the Gram form does 0.8 of the operations and batches matrices. It holds
    where both libraries multiply at the same speed; the ratio of the products is stated for that
    reason.""",
    skip=no_torch,
)
def muon_beside_torch(quick: bool) -> Iterator[Number]:
    """Time of a step of muon, 3 layers, d=512"""
    script = str(Path(__file__).with_name("torch_side.py"))
    ours = [sys.executable, "-P", "-m", "benchmarks.suite.muon_torch"]
    torch = [os.environ[TORCH], script]
    sides = {(name, dtype): [*command, dtype, clock.__name__]
             for name, command in (("gradtx", ours), ("torch", torch))
             for dtype in ("float32", "bfloat16")}  # fmt: skip
    times: dict[Any, list[list[float]]] = {side: [] for side in sides}
    for _ in range(2 if quick else 4):
        for side, command in sides.items():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
            times[side].append([float(x) for x in done.stdout.split()[-2:]])
    step, product = ({side: np.array(each)[:, k] for side, each in times.items()} for k in (0, 1))
    default = step["torch", "bfloat16"]
    yield ratio("float32", step["gradtx", "float32"], step["torch", "float32"], "torch")
    for dtype in ("float32", "bfloat16"):
        case = f"{dtype}, against torch's default of bfloat16"
        yield ratio(case, step["gradtx", dtype], default, "torch", stated=True)
    sides_of_product = product["gradtx", "float32"], product["torch", "float32"]
    yield ratio("a product of 2048 x 2048 in float32", *sides_of_product, "torch", stated=True)


def seconds_alone(dtype: str) -> tuple[float, float]:
    """Seconds of a step of gradtx and of a float32 product, in this process."""
    shapes, tx = hidden_matrices(512, 3), gradtx.muon(RATE, **SAME, ns_dtype=dtype)
    step = muon_runs(build_step(tx, gradtx.apply_updates, shapes), tx, shapes)
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    matmul = jax.jit(jnp.matmul)
    times = interleaved(9, step, lambda: matmul(square, square))
    return float(np.median(times[0])), float(np.median(times[1]))


if __name__ == "__main__":
    print(*seconds_alone(sys.argv[1]))

"""Steps on a GPU, of the sizes that fill one: `JAX_PLATFORMS=cuda make bench`."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from benchmarks.measure import Run, interleaved, median_interval, ratio
from benchmarks.models import RATE, Tree, gpt2, hidden_matrices, normal, size
from benchmarks.programs import step_of
from benchmarks.registry import Number, at_least, at_most, benchmark

SIZES = {"12 layers, d=768": (768, 12), "8 layers, d=2048": (2048, 8)}
Side = tuple[Any, Callable[..., Any]]  # an optimizer and its `apply_updates`
ADAMW: Side = gradtx.adamw(RATE), gradtx.apply_updates


def queued(side: Side, shapes: Tree, grads: Tree, steps: int) -> Run:
    """Runs of several donated steps, which wait in the queue of the device, and so hide its host."""
    tx, apply = side
    params = normal(shapes, 0)
    carried = params, jax.jit(tx.init)(params)
    program = jax.jit(step_of(tx, apply), donate_argnums=(0, 1))

    def run() -> Any:
        nonlocal carried
        for _ in range(steps):
            carried = program(*carried, grads)
        return carried

    return run


def side_by_side(shapes: Tree, steps: int, rounds: int, *sides: Side) -> np.ndarray:
    """Seconds `[sides, rounds]` of one step of each optimizer."""
    grads = normal(shapes, 1)
    runs = (queued(side, shapes, grads, steps) for side in sides)
    return interleaved(rounds, *runs) / steps


def repeated(f: Callable[[Any], Any], x: Any, times: int) -> Run:
    """Runs that call `f(x)` several times, and keep the last result only."""

    def run() -> Any:
        result = None
        for _ in range(times):
            result = f(x)
        return result

    return run


def muon(dtype: str | None = None) -> Side:
    return gradtx.muon(RATE, ns_dtype=dtype), gradtx.apply_updates


@benchmark(
    group="muon",
    device="gpu",
    against="Optax",
    goal={f"{case}, {dtype}": at_most(limit) for case in SIZES
          for dtype, limit in (("float32", 0.95), ("bfloat16", 0.55))},
    because="""A count: the Gram form does 0.8 of the operations for rectangles, and the momentum of both
    takes the same time, so that 0.85 are left, and a tenth is added for bringing matrices together.
    Products in bfloat16, which Optax does not offer, are twice as fast as in TF32.""",
)  # fmt: skip
def muon_on_gpu(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of muon on a GPU"""
    peer: Side = optax.contrib.muon(RATE, consistent_rms=0.2), optax.apply_updates
    for case, of in SIZES.items():
        sides = muon(), muon("bfloat16"), peer
        times = side_by_side(hidden_matrices(*of), 3, 5 if quick else 15, *sides)
        yield ratio(f"{case}, float32", times[0], times[2])
        yield ratio(f"{case}, bfloat16", times[1], times[2])


@benchmark(
    group="muon",
    device="gpu",
    against="torch",
    goal=at_most(0.9),
    because="""A choice. torch takes one matrix after another, and adds the two terms of a step within
    its products. gradtx batches matrices, takes the Gram form for rectangles, and has to bring matrices
    of one shape together, which reads and writes all of them once more.""",
    skip=lambda: "" if find_spec("torch") else "There is no torch here.",
)
def muon_beside_torch_on_gpu(quick: bool) -> Iterator[Number]:
    """Time of a step of muon in bfloat16 on a GPU"""
    script = str(Path(__file__).with_name("torch_on_gpu.py"))
    for case, (width, layers) in SIZES.items():
        command = [sys.executable, script, str(width), str(layers), str(5 if quick else 15)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = [float(x) for x in done.stdout.split()]
        shapes = hidden_matrices(width, layers)
        ours = side_by_side(shapes, 3, len(theirs), muon("bfloat16"))[0]
        yield ratio(case, ours, theirs, peer="torch")


@benchmark(
    group="muon",
    device="gpu",
    against="a product of 8192 x 8192",
    goal={"16 x 2048 x 2048, bfloat16": at_least(0.7), "16 x 2048 x 2048, float32": at_least(0.7)},
    because="""A choice: the norm and the sums of products, which are not products, and the smaller size
    of the products may take 30% of the time. For 768 rows the number is stated.""",
)
def newton_schulz_on_gpu(quick: bool) -> Iterator[Number]:
    """Operations per second of the standard form on a GPU, as a share of the product's"""
    for dtype in ("bfloat16", "float32"):
        square = jax.random.normal(jax.random.key(0), (8192, 8192)).astype(dtype)
        matmul = jax.jit(lambda x: x @ x)
        for stated, (batch, m, n) in ((False, (16, 2048, 2048)), (True, (48, 768, 768))):
            x = jax.random.normal(jax.random.key(1), (batch, m, n))
            f = jax.jit(lambda x, d=dtype: gradtx.newton_schulz(x, form="standard", dtype=d))
            runs = repeated(f, x, 5), repeated(matmul, square, 5)
            times = interleaved(5 if quick else 15, *runs)
            flops = 5 * batch * (4 * m * m * n + 2 * m**3)
            rates = 5 * np.array([[flops], [2 * 8192**3]]) / times
            value, low, high = median_interval(rates[0] / rates[1])
            details: Any = {"product": (float(np.median(rates[1])), "FLOP/s")}
            case = f"{batch} x {m} x {n}, {dtype}"
            yield Number(case, value, "ratio", low, high, details, stated)


@benchmark(
    group="steps",
    device="gpu",
    against="Optax",
    goal={"adamw": at_most(1.02), "adamw with clipping": at_most(1.02)},
    because="""Both sides read and write the same bytes. On a GPU every leaf has a kernel of its own, and
    two hundredths are what the start of 148 kernels scatters.""",
)
def adamw_on_gpu(quick: bool) -> Iterator[Number]:
    """Time of a jitted step of adamw on a GPU, GPT-2 small"""
    shapes, rounds = gpt2(), 7 if quick else 21
    ones = jnp.ones(2**28)
    copy = jax.jit(lambda x: x + 1)
    plain = optax.adamw(RATE), optax.apply_updates
    times = side_by_side(shapes, 20, rounds, ADAMW, plain, plain)
    number = ratio("adamw", times[0], times[1])
    copied = float(np.median(interleaved(rounds, repeated(copy, ones, 20)))) / 20
    share = (28 * size(shapes) / np.median(times[0])) / (8 * ones.size / copied)
    more: Any = {"optax to itself": (float(np.median(times[2] / times[1])), "ratio")}
    more["share of a copy's bytes per second"] = float(share), ""
    yield number._replace(details={**number.details, **more})
    clipped = [
        (
            library.chain(library.clip_by_global_norm(1.0), library.adamw(RATE)),
            library.apply_updates,
        )
        for library in (gradtx, optax)
    ]
    yield ratio("adamw with clipping", *side_by_side(shapes, 20, rounds, *clipped))

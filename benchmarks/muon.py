"""Muon: time, operations, memory and accuracy of the orthogonalization, and of whole updates."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gradtx
from benchmarks import harness
from benchmarks.elementwise import step_of
from benchmarks.harness import Program, Row, Run, build, interleaved, quotient, ratio, stepping
from gradtx._matrices.groups import GROUP_BYTES
from gradtx._matrices.polynomials import resolve_coefficients

Tree = dict[str, Any]
# Optax's default coefficients, so that both sides do the same steps.
SAME = {"coefficients": "jordan", "steps": 5}


def gpt(width: int, layers: int) -> Tree:
    """Shapes of hidden matrices: four d x d, one d x 4d and one 4d x d a layer."""
    shapes = dict.fromkeys(("query", "key", "value", "out"), (width, width))
    shapes |= {"up": (width, 4 * width), "down": (4 * width, width)}
    layer = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return {f"layer{i}": layer for i in range(layers)}


def gpt2() -> Tree:
    """The shapes of GPT-2 small, 124M parameters."""

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def dense(inputs: int, outputs: int) -> Tree:
        return {"kernel": array(inputs, outputs), "bias": array(outputs)}

    norm = {"scale": array(768), "bias": array(768)}
    block = {
        "ln_1": norm,
        "attn": {"c_attn": dense(768, 2304), "c_proj": dense(768, 768)},
        "ln_2": norm,
        "mlp": {"c_fc": dense(768, 3072), "c_proj": dense(3072, 768)},
    }
    return {
        "wte": {"embedding": array(50257, 768)},
        "wpe": {"embedding": array(1024, 768)},
        "h": {str(i): block for i in range(12)},
        "ln_f": norm,
    }


def normal(shapes: Tree, seed: int) -> Tree:
    """Arrays of these shapes with normal entries."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return structure.unflatten(
        [jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, leaves, strict=True)]
    )


def compiled(tx: Any, apply: Callable[..., Any], shapes: Tree) -> Program:
    return build(step_of(tx, apply), shapes, jax.eval_shape(tx.init, shapes), shapes, donate=(0, 1))


def ours(shapes: Tree, **options: Any) -> Program:
    return compiled(gradtx.muon(1e-3, **options), gradtx.apply_updates, shapes)


def theirs(shapes: Tree) -> Program:
    tx = optax.contrib.muon(1e-3, consistent_rms=0.2)
    return compiled(tx, optax.apply_updates, shapes)


def running(program: Program, tx: Any, shapes: Tree) -> Run:
    params = normal(shapes, 0)
    return stepping(program, params, tx.init(params), normal(shapes, 1))


def rows(quick: bool, say: Callable[[str], None], torch: str | None) -> Iterator[Row]:
    """The part of the table about Muon."""
    yield from _update(3 if quick else 9, say)
    yield from _aspects(say)
    yield from _programs(3 if quick else 7, say)
    yield from _throughput(quick, say)
    yield from _accuracy(say)
    yield from _memory(say)
    if torch:
        yield from _torch(torch, 2 if quick else 4, say)


def _update(rounds: int, say: Callable[[str], None]) -> Iterator[Row]:
    shapes, what = gpt(512, 3), "muon, GPT set (d=512, 3 layers)"
    say("muon beside optax")
    mine, peer = ours(shapes, **SAME), theirs(shapes)
    taken = ratio(
        rounds,
        running(mine, gradtx.muon(1e-3, **SAME), shapes),
        running(peer, optax.contrib.muon(1e-3, consistent_rms=0.2), shapes),
    )
    yield Row(f"{what}: update", "optax.contrib.muon", "<= 0.48", str(taken), taken.median <= 0.48)
    saved = mine.flops / peer.flops
    yield Row(f"{what}: FLOPs", "optax.contrib.muon", "<= 0.80", f"{saved:.3f}", saved <= 0.8)
    shapes = gpt(768, 1)
    saved = ours(shapes, **SAME).flops / theirs(shapes).flops
    what = "muon, GPT set (d=768), where symmetric blocks win time: FLOPs"
    yield Row(what, "optax.contrib.muon", "<= 0.74", f"{saved:.3f}", saved <= 0.74)


def _aspects(say: Callable[[str], None]) -> Iterator[Row]:
    for aspect, goal in ((4, 0.68), (8, 0.55)):
        say(f"FLOPs at 1:{aspect}")
        x = jax.ShapeDtypeStruct((512, 512 * aspect), jnp.float32)
        counts = [
            build(lambda x, form=form: gradtx.newton_schulz(x, form=form, symmetric=False), x).flops
            for form in ("auto", "standard")
        ]
        saved = counts[0] / counts[1]
        yield Row(
            f"newton_schulz, 512 x {512 * aspect}: FLOPs, dense products",
            "standard form",
            f"<= {goal}",
            f"{saved:.3f}",
            saved <= goal,
        )


def _programs(rounds: int, say: Callable[[str], None]) -> Iterator[Row]:
    shapes, what = gpt(512, 8), "muon, GPT set (d=512, 8 layers)"
    say("compile time")
    pairs = [(ours(shapes, **SAME), theirs(shapes)) for _ in range(rounds)]
    mine, peer = pairs[0]
    against = f"optax.contrib.muon, {peer.dots}"
    yield Row(f"{what}: dot operations", against, "<= 60", str(mine.dots), mine.dots <= 60)
    taken = quotient([a.compile for a, _ in pairs], [b.compile for _, b in pairs])
    yield Row(
        f"{what}: compile time", "optax.contrib.muon", "<= 0.4", str(taken), taken.median <= 0.4
    )


def _throughput(quick: bool, say: Callable[[str], None]) -> Iterator[Row]:
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    matmul = jax.jit(lambda x: x @ x)
    for shape in ((256, 1024), (512, 512), (512, 2048), (1024, 1024)):
        say(f"throughput at {shape[0]} x {shape[1]}")
        x = jax.random.normal(jax.random.key(1), shape)
        program = build(
            lambda x: gradtx.newton_schulz(x, form="standard", symmetric=False, **SAME), x
        )
        repeat = max(1, int(2e10 // program.flops))
        times = interleaved(
            5 if quick else 15,
            lambda program=program, x=x, n=repeat: [program.run(x) for _ in range(n)],
            lambda: matmul(square),
        )
        rates = [
            [operations / seconds for seconds in each]
            for operations, each in zip((repeat * program.flops, 2 * 2048**3), times, strict=True)
        ]
        reached = quotient(*rates)
        yield Row(
            f"standard form, {shape[0]} x {shape[1]}: FLOP/s",
            "2048 x 2048 product beside it",
            ">= 0.85",
            f"{reached} of {statistics.median(rates[1]) / 1e9:.0f} GFLOP/s",
            reached.median >= 0.85,
        )


def spectra() -> Iterator[tuple[str, np.ndarray]]:
    """Matrices that are hard in different ways, in float32."""
    rng = np.random.default_rng(0)
    for m, n in ((64, 256), (128, 512), (256, 256), (256, 1024)):
        left = np.linalg.qr(rng.normal(size=(m, m)))[0]
        right = np.linalg.qr(rng.normal(size=(n, m)))[0].T
        gauss = rng.normal(size=(m, n))
        holes = gauss.copy()
        holes[:: m // 16] = 0
        yield "gauss", gauss.astype(np.float32)
        yield "condition 1e4", ((left * np.logspace(0, -4, m)) @ right).astype(np.float32)
        yield "condition 1e6", ((left * np.logspace(0, -6, m)) @ right).astype(np.float32)
        low = rng.normal(size=(m, m // 8)) @ rng.normal(size=(m // 8, n))
        yield "rank m/8", low.astype(np.float32)
        yield "zero rows", holes.astype(np.float32)


def exact(x: np.ndarray, coefficients: Any) -> np.ndarray:
    """The same polynomials in float64."""
    x = x.astype(np.float64)
    x /= np.linalg.norm(x)
    for a, b, c in coefficients:
        r = x @ x.T
        x = a * x + (b * r + c * r @ r) @ x
    return x


def _accuracy(say: Callable[[str], None]) -> Iterator[Row]:
    say("accuracy")
    coefficients = resolve_coefficients("polar_express", None)
    worst, where, errors = 0.0, "", {"standard": [], "auto": []}
    for name, x in spectra():
        truth = exact(x, coefficients)
        for form, each in errors.items():
            y = np.asarray(gradtx.newton_schulz(x, form=form), np.float64)
            each.append(np.linalg.norm(y - truth) / np.linalg.norm(truth))
        if (times := errors["auto"][-1] / errors["standard"][-1]) > worst:
            worst, where = times, f"{name}, {x.shape[0]} x {x.shape[1]}"
    yield Row(
        "newton_schulz: error beside float64, 20 spectra",
        f"standard form, at most {max(errors['standard']):.1e}",
        "<= 2",
        f"at most {worst:.2f} ({where}), {max(errors['auto']):.1e}",
        bool(worst <= 2),
    )
    rng = np.random.default_rng(1)
    values = _singular(rng.normal(size=(256, 1024)))
    yield Row(
        "default, 256 x 1024 Gaussian: singular values",
        "1",
        "in [.85, 1.15]",
        f"{values.min():.3f} to {values.max():.3f}",
        bool(values.min() >= 0.85 and values.max() <= 1.15),
    )
    left, right = (np.linalg.qr(rng.normal(size=(n, 256)))[0] for n in (256, 1024))
    decaying = (left * np.logspace(0, -3, 256)) @ right.T
    least, other = _singular(decaying).min(), _singular(decaying, **SAME).min()
    yield Row(
        "default, spectrum logspace(0, -3): least singular value",
        f"Jordan's quintic, {other:.3f}",
        ">= 1.9",
        f"{least / other:.2f} ({least:.3f})",
        bool(least / other >= 1.9),
    )


def _singular(x: np.ndarray, **options: Any) -> np.ndarray:
    y = gradtx.newton_schulz(jnp.asarray(x, jnp.float32), **options)
    return np.linalg.svd(np.asarray(y, np.float64), compute_uv=False)


def _memory(say: Callable[[str], None]) -> Iterator[Row]:
    say("memory at 124M parameters")
    shapes = gpt2()
    mine, peer = ours(shapes), theirs(shapes)
    frugal = mine.lowered.compile({"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"})
    least = frugal.memory_analysis().temp_size_in_bytes
    constant = mine.temporary / GROUP_BYTES
    yield Row(
        "muon, 124M parameters: temporary memory",
        f"optax.contrib.muon, {peer.temporary / 2**20:.0f} MiB",
        f"<= 2.5 groups of {GROUP_BYTES / 2**20:.0f} MiB",
        f"{constant:.2f}, {mine.temporary / 2**20:.0f} MiB; scheduled for memory "
        f"{least / GROUP_BYTES:.2f}",
        constant <= 2.5,
    )


def _torch(python: str, rounds: int, say: Callable[[str], None]) -> Iterator[Row]:
    """Processes of both libraries in turn, the same shapes, steps and threads."""
    script = str(Path(__file__).with_name("torch_muon.py"))
    clock = harness.clock.__name__
    sides = {
        "ours": [sys.executable, "-m", "benchmarks.muon", "float32", clock],
        "ours, bfloat16": [sys.executable, "-m", "benchmarks.muon", "bfloat16", clock],
        "float32": [python, script, "float32", clock],
        "bfloat16": [python, script, "bfloat16", clock],
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    products: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        say(f"torch, processes in turn, {turn + 1} of {rounds}")
        for name, command in sides.items():
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
            update, product = done.stdout.split()[-2:]
            times[name].append(float(update))
            products[name].append(float(product))
    same = quotient(times["ours"], times["float32"])
    yield Row(
        "muon, GPT set (d=512, 3 layers): update",
        f"torch.optim.Muon in float32, {statistics.median(times['float32']) * 1e3:.0f} ms",
        "<= 0.75",
        str(same),
        same.median <= 0.75,
    )
    # Which of the two has the faster matmul differs from processor to processor.
    yield Row(
        "the 2048 x 2048 float32 product beside it",
        f"torch, {2 * 2048**3 / statistics.median(products['float32']) / 1e9:.0f} GFLOP/s",
        "stated",
        str(quotient(products["ours"], products["float32"])),
    )
    for name, what in (("ours", "the same"), ("ours, bfloat16", "in bfloat16")):
        yield Row(
            f"{what}: update",
            f"its bfloat16 default, {statistics.median(times['bfloat16']) * 1e3:.0f} ms",
            "stated",
            str(quotient(times[name], times["bfloat16"])),
        )


def _alone(dtype: str) -> tuple[float, float]:
    """Seconds of one update and of one float32 product, for a process of its own."""
    shapes, options = gpt(512, 3), {**SAME, "ns_dtype": dtype}
    update = running(ours(shapes, **options), gradtx.muon(1e-3, **options), shapes)
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    matmul = jax.jit(jnp.matmul)
    times = interleaved(9, update, lambda: matmul(square, square))
    return statistics.median(times[0]), statistics.median(times[1])


if __name__ == "__main__":
    harness.clock = getattr(time, sys.argv[2])
    print(*_alone(sys.argv[1]))

"""`python -m benchmarks.house`: what the library itself costs, beside version 0.1 and Optax.

The working tree and version 0.1 (or another commit or folder) are measured in child processes that
differ only in the `gradtx` that stands first on their path. Ratios to Optax are taken inside one child,
in interleaved rounds. Every goal is an upper limit. Only public names of gradtx are used.
"""

import argparse
import gc
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

from benchmarks import harness
from benchmarks.harness import console, interleaved, progress, quotient

ROOT = Path(__file__).resolve().parent.parent
BASELINE = "2bacfc7"  # version 0.1
RATE = 1e-3
Tree = Any


class Figure(NamedTuple):
    """A figure of one version; `value` is what the goal limits, None if that is out of reach."""

    what: str
    value: float | None
    text: str
    optax: str = ""
    goal: float | None = None


def parameters(leaves: int, *shape: int) -> Tree:
    """A tree of normal numbers."""
    keys = jax.random.split(jax.random.key(0), leaves)
    return {f"leaf{i}": jax.random.normal(key, shape) for i, key in enumerate(keys)}


def gradients(params: Tree) -> Tree:
    return jax.tree.map(lambda x: jnp.cos(x) / 10, params)


def shapes(tree: Tree) -> Tree:
    """A tree of tuples as one of abstract float32 arrays."""
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        tree,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def pair(gradtx: Any, name: str = "adamw", **options: float) -> list[tuple[Any, Any]]:
    """An optimizer of both libraries, ours first, each with its `apply_updates`."""
    return [(getattr(x, name)(RATE, **options), x.apply_updates) for x in (gradtx, optax)]


def step_of(tx: Any, apply: Callable[..., Any]) -> Callable[..., Any]:
    """A step: parameters and state come first, so that each donated buffer finds its successor."""

    def step(params: Tree, state: Any, gradients: Tree) -> tuple[Tree, Any]:
        updates, state = tx.update(gradients, state, params)
        return apply(params, updates), state

    return step


def calls(gradtx: Any, quick: bool, name: str, leaves: int) -> Iterator[Figure]:
    """Python calls into gradtx while a step is traced for the first time in a process.

    The step is `update` and `apply_updates`. Its transformation is a new value, and the state comes
    from the `init` of an equal one; neither construction nor `init` is counted, nor what JAX calls in
    itself. Each case has a process of its own, since a second trace finds caches full. The goal is half
    of version 0.1's calls, many of which ask again what has been asked before.
    """
    tree = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3), "embedding": jnp.ones((10, 4))}
    params = {key: tree[key] for key in list(tree)[:leaves]}
    state = getattr(gradtx, name)(RATE).init(params)
    step = jax.jit(step_of(getattr(gradtx, name)(RATE), gradtx.apply_updates))
    home, count = os.path.dirname(gradtx.__file__) + os.sep, 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(home)

    sys.setprofile(profile)
    step.trace(params, state, params)
    sys.setprofile(None)
    yield Figure(f"{name}, {leaves} leaves: calls of a first trace", count, f"{count:,}")


def shared_step(tx: Any, apply: Any, peer: Any) -> tuple[Callable[..., Any], list[Any]]:
    """A step over lists `(params, moments, scalars, gradients)`, and its first scalars.

    The moments are those of Optax's `peer`, in its order, so that one set of buffers serves every
    candidate. Which one is which is told by the values after a step on small arrays.
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


def jitted(gradtx: Any, quick: bool) -> Iterator[Figure]:
    """Jitted and donated steps of two leaves of 2048 x 2048, beside Optax's.

    One set of buffers passes through all candidates in turn, since buffers of their own differ by 12%
    by their placement alone; the gradients are an argument, so that nothing is hoisted. Optax runs a
    second time as a candidate: its ratio to itself shows what the method cannot tell apart. Both sides
    move the same bytes, so the goal is parity: the 95% bootstrap interval of the median ratio has to
    reach 1.01, about the least difference that a hundred rounds show. On a busy machine the interval is
    wide and reaches it too easily; --busy makes it narrower.
    """
    draw = np.random.default_rng(0).choice
    for name in ("adamw", "adam", "sgd", "rmsprop", "adagrad"):
        ours, theirs = pair(gradtx, name, **({"momentum": 0.9} if name == "sgd" else {}))
        params = parameters(2, 2048, 2048)
        held = [x for x in jax.tree.leaves(theirs[0].init(params)) if x.ndim == 2]
        grads, programs, rests = gradients(params), [], []
        for side in (ours, theirs, theirs):
            step, rest = shared_step(*side, theirs[0])
            step = jax.jit(step, donate_argnums=(0, 1, 2))
            programs.append(step.lower(params, held, rest, grads).compile())
            rests.append(jax.tree.map(jnp.copy, rest))
        places = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, held))]
        rounds = 20 if quick else 100
        times = np.zeros((3, rounds + 3))  # three rounds to warm up
        gc.collect()
        gc.disable()
        for turn in range(rounds + 3):
            for k in ((turn + i) % 3 for i in range(3)):
                start = harness.clock()
                params, held, rests[k] = programs[k](params, held, rests[k], grads)
                jax.block_until_ready((params, held))
                times[k, turn] = harness.clock() - start
        gc.enable()
        assert places == [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, held))]
        ratios, again = times[0, 3:] / times[1, 3:], np.median(times[2, 3:] / times[1, 3:])
        drawn = np.median(draw(ratios, (4000, rounds)), axis=1)
        low, high = map(float, np.quantile(drawn, [0.025, 0.975]))
        text = f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})"
        other = f"{1e3 * np.median(times[1, 3:]):.1f} ms, itself {again:.3f}"
        yield Figure(f"{name}: jitted step", low, text, other, 1.01)


def unjitted(gradtx: Any, quick: bool) -> Iterator[Figure]:
    """An un-jitted step of AdamW with 100 leaves, five in a row, beside Optax's.

    Optax dispatches every operation of every leaf, gradtx one compiled function per leaf. The goal, a
    fifth of Optax's time, is what version 0.1 promised of `update`; with `apply_updates`, which both
    dispatch leaf by leaf, the ratio is stated.
    """
    params = parameters(100, 64, 4)
    grads = gradients(params)

    def five(tx: Any, apply: Any, whole: bool) -> Callable[[], Any]:
        first = tx.init(params)

        def run() -> Any:
            now, state = params, first
            for _ in range(5):
                updates, state = tx.update(grads, state, now)
                now = apply(now, updates) if whole else now
            return now, state

        return run

    for what, whole in (("update", False), ("update and apply_updates", True)):
        times = interleaved(5 if quick else 21, *(five(*side, whole) for side in pair(gradtx)))
        ours, theirs = (f"{1e3 * np.median(each) / 5:.2f} ms" for each in times)
        ratio, goal = quotient(*times), None if whole else 0.2
        what = f"adamw, 100 leaves: un-jitted {what}"
        yield Figure(what, ratio.median, f"{ours}, {ratio}", theirs, goal)


def nested(gradtx: Any, quick: bool) -> Iterator[Figure]:
    """AdamW and fifty times `tx = chain(tx, scale(0.5))`, beside one flat chain of the same links.

    Nesting is notation, so the goal is 1.2 of the flat form: room for noise and one visit to every
    chain. Whoever asks a nested link twice asks 2^50 questions, so the depth grows by fives, and the
    figure ends where the nested form takes ten times as long. Every value has a number of its own, also
    that whose `init` makes the state: what an earlier one has cached does not help.
    """
    params, numbers = parameters(2, 4, 3), iter(np.linspace(0.4, 0.6, 10_000).tolist())
    grads = gradients(params)

    def built(flat: bool, depth: int) -> Any:
        tx, number = gradtx.adamw(RATE), next(numbers)
        links = [gradtx.scale(number) for _ in range(depth)]
        for link in () if flat else links:
            tx = gradtx.chain(tx, link)
        return gradtx.chain(tx, *links) if flat else tx

    def ratios(depth: int, rounds: int, repeats: int) -> tuple[harness.Ratio, harness.Ratio]:
        def updates(tx: Any, state: Any) -> Callable[[], Any]:
            return lambda: [tx.update(grads, state, params) for _ in range(repeats)]

        traces: list[list[float]] = [[], []]
        for _ in range(rounds + 1):
            for flat, seconds in enumerate(traces):
                tx, state = built(bool(flat), depth), built(bool(flat), depth).init(params)
                seconds.append(harness.trace(tx.update, grads, state, params)[0])
        both = [built(flat, depth) for flat in (False, True)]
        times = interleaved(rounds, *(updates(tx, tx.init(params)) for tx in both))
        return quotient(traces[0][1:], traces[1][1:]), quotient(*times)

    for depth in range(5, 55, 5):
        found = ratios(depth, 1, 1)
        if max(ratio.median for ratio in found) > 10:
            break
    short = "" if depth == 50 else f"{depth} deep: "
    found = found if short else ratios(depth, 5 if quick else 15, 5)
    for what, ratio in zip(("trace and lower", "un-jitted update"), found, strict=True):
        what, value = f"chain nested 50 deep: {what}, beside flat", None if short else ratio.median
        yield Figure(what, value, f"{short}{ratio.median:.1f}" if short else str(ratio), "", 1.2)


def tables(gradtx: Any, quick: bool) -> Iterator[Figure]:
    """`summarize` and `routing` of Muon for the 723 leaves of a model of 70B parameters, as text.

    Both are asked for at a prompt, before anything runs: the goal of two seconds is what one waits for
    without wondering.
    """
    wide, narrow, inner = 8192, 1024, 28672
    layer: Tree = {"q": (wide, wide), "k": (wide, narrow), "v": (wide, narrow), "o": (wide, wide)}
    layer |= {"gate": (wide, inner), "up": (wide, inner), "down": (inner, wide)}
    layer = {key: {"kernel": shape} for key, shape in layer.items()}
    layer |= {"norm1": {"scale": (wide,)}, "norm2": {"scale": (wide,)}}
    outer = {"embedding": (128256, wide), "norm": (wide,), "head": {"kernel": (wide, 128256)}}
    params = shapes({"layers": [layer] * 80, **outer})
    for name in ("summarize", "routing"):
        start = harness.clock()
        repr(getattr(gradtx, name)(gradtx.muon(RATE), params))
        taken = harness.clock() - start
        yield Figure(f"{name} of muon, 723 leaves", taken, f"{taken:.2f} s", "", 2)


def loop(gradtx: Any, quick: bool, field: str) -> Iterator[Figure]:
    """An un-jitted loop in which a number of AdamW changes at every step, with 10 leaves.

    Optax's optimizer is built anew at every step. After twenty steps to warm up nothing may be compiled,
    and nothing kept: the goal of 10 kB a step is what the allocator's noise comes to in Optax's loop.
    A version that has compiled at each of the first 30 steps is stopped there. Time is stated.
    """
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event)
    )
    first, change = {"learning_rate": (RATE, 1e-7), "b2": (0.99, 1e-6)}[field]
    grads, steps = gradients(parameters(10, 64, 64)), 100 if quick else 1000

    def run(renewed: Callable[[Any, float], Any], tx: Any, apply: Any) -> list[float]:
        params = parameters(10, 64, 64)
        state = tx.init(params)
        for step in range(-20, steps):
            if step == 0:
                gc.collect()
                compiled.clear()
                memory, start = resident(), harness.clock()
            tx = renewed(tx, first + change * (step + 21))
            updates, state = tx.update(grads, state, params)
            params = jax.block_until_ready(apply(params, updates))
            count = compiled.count("/jax/core/compile/backend_compile_duration")
            if step == 29 and count >= 30:
                break
        taken = harness.clock() - start
        gc.collect()
        kept = resident() - memory
        return [count, step + 1, 1e3 * taken / (step + 1), kept / 1e3 / (step + 1)]

    ours, theirs = pair(gradtx)
    other = run(lambda _, x: optax.adamw(**{"learning_rate": RATE, field: x}), *theirs)
    own = run(lambda tx, x: gradtx.replace(tx, **{field: x}), *ours)
    what, counts = f"un-jitted loop over {field}", [f"{x[0]} in {x[1]} steps" for x in (own, other)]
    yield Figure(f"{what}: compilations", own[0], *counts, 0)
    yield Figure(f"{what}: time per step", own[2], f"{own[2]:.2f} ms", f"{other[2]:.2f} ms")
    yield Figure(f"{what}: memory kept", own[3], f"{own[3]:.1f} kB", f"{other[3]:.1f} kB", 10)


def resident() -> int:
    """Bytes of this process in memory, as Linux has them."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compiling(gradtx: Any, quick: bool, kind: str) -> Iterator[Figure]:
    """CPU seconds to trace and lower, and to compile, a donated step of AdamW, beside Optax's.

    All from shapes and from cleared caches: 1,000 small leaves of one shape, or GPT-2's 148 leaves.
    What gradtx saves in tracing may pay for guards that XLA has to compile: the goal is 1.1 of Optax's
    total, a difference that nobody notices.
    """
    params = shapes({f"leaf{i}": (256,) for i in range(1000)}) if kind == "1,000 leaves" else gpt2()
    times: list[list[tuple[float, float]]] = [[], []]
    for tree in [shapes({"small": (2, 2)})] + [params] * (1 if quick else 3):
        for each, (tx, apply) in zip(times, pair(gradtx), strict=True):
            state = jax.eval_shape(tx.init, tree)
            jax.clear_caches()
            gc.collect()
            start = time.process_time()
            lowered = jax.jit(step_of(tx, apply), donate_argnums=(0, 1)).lower(tree, state, tree)
            traced = time.process_time()
            lowered.compile()
            each.append((traced - start, time.process_time() - traced))
    ours, theirs = (np.array(each[1:]) for each in times)
    for what, own, other in zip(
        ("trace and lower", "compile"), np.median(ours, 0), np.median(theirs, 0), strict=True
    ):
        yield Figure(f"adamw, {kind}: {what}", float(own), f"{own:.2f} s", f"{other:.2f} s")
    ratio, other = float(np.median(ours.sum(1) / theirs.sum(1))), np.median(theirs.sum(1))
    yield Figure(f"adamw, {kind}: both", ratio, f"{ratio:.3f} of Optax", f"{other:.2f} s", 1.1)


def gpt2() -> Tree:
    """The shapes of GPT-2 small: 148 leaves, 124 million parameters."""
    d = 768
    norm, block = {"scale": (d,), "bias": (d,)}, {}
    for name, i, o in (("attention", 1, 3), ("projection", 1, 1), ("up", 1, 4), ("down", 4, 1)):
        block[name] = {"kernel": (i * d, o * d), "bias": (o * d,)}
    block |= {"norm1": norm, "norm2": norm}
    return shapes({"tokens": (50257, d), "places": (1024, d), "norm": norm, "blocks": [block] * 12})


# One process each: the figure, what measures it, and with which arguments. In a process whose name
# ends in "avx2" XLA may use no more than these instructions.
CHILDREN: list[tuple[str, Callable[..., Iterator[Figure]], tuple[Any, ...]]] = [
    ("calls", calls, ("adamw", 2)),
    ("calls", calls, ("muon", 2)),
    ("calls", calls, ("muon", 3)),
    ("jitted", jitted, ()),
    ("jitted-avx2", jitted, ()),
    ("unjitted", unjitted, ()),
    ("nested", nested, ()),
    ("tables", tables, ()),
    ("loop", loop, ("learning_rate",)),
    ("loop", loop, ("b2",)),
    ("compile", compiling, ("1,000 leaves",)),
    ("compile", compiling, ("GPT-2",)),
]


def run(index: int, home: Path, options: argparse.Namespace) -> dict[str, Figure]:
    """A child's figures with the gradtx in a folder; none, and a message, if it fails."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    if CHILDREN[index][0].endswith("avx2"):
        environment["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_max_isa=AVX2"
    # With -P the working directory, and the gradtx that lies in it, is not on the path.
    command = [sys.executable, "-P", "-m", "benchmarks.house", "--worker", str(index)]
    command += ["--quick"] * options.quick + ["--busy"] * options.busy
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1]
        console.print(f"{CHILDREN[index][0]} failed in {home.name}: {message}", style="red")
        return {}
    return {row[0]: Figure(*row) for row in json.loads(done.stdout.splitlines()[-1])}


def place(source: str, home: Path) -> Path:
    """Puts the gradtx of a folder or a commit, and nothing else, into a folder of its own."""
    home.mkdir()
    if Path(source).is_dir():
        (home / "gradtx").symlink_to(Path(source).resolve() / "gradtx")
    else:
        git("archive", f"--output={home}.tar", source, "gradtx")
        shutil.unpack_archive(f"{home}.tar", home)
    if not (home / "gradtx" / "__init__.py").exists():  # or an installed one would be measured
        raise SystemExit(f"{source} has no gradtx.")
    return home


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def line(name: str, before: Figure | None, now: Figure | None) -> dict[str, Any]:
    """One line of the table and of the file, from a figure of each version."""
    one = now or before
    assert one is not None
    what, goal = one.what + (", AVX2" if name.endswith("avx2") else ""), one.goal
    if name == "calls" and before and before.value:
        goal = before.value // 2
    value = now.value if now else None
    reached = None if goal is None or not now else value is not None and value <= goal
    texts = {
        "version 0.1": before.text if before else "failed",
        "now": now.text if now else "failed",
    }
    values = {"value of version 0.1": before.value if before else None, "value now": value}
    return {"what": what, "Optax": one.optax, **texts, "goal": goal, "reached": reached, **values}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.house", description=__doc__)
    names = list(dict.fromkeys(name for name, *_ in CHILDREN))
    parser.add_argument("--baseline", default=BASELINE, help="a commit, or a folder with gradtx/")
    parser.add_argument("--now", default=str(ROOT), help="the same, in place of the working tree")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", choices=names, help="one of the figures")
    parser.add_argument("--json", metavar="FILE", help="save the figures, and what they are of")
    parser.add_argument("--busy", action="store_true", help="CPU time, not time on the clock")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        harness.clock = time.process_time if options.busy else time.perf_counter
        _, measure, arguments = CHILDREN[options.worker]
        gradtx = importlib.import_module("gradtx")
        print(json.dumps(list(measure(gradtx, options.quick, *arguments))))
        return

    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    named = [x.split(":")[1].strip() for x in cpu.splitlines() if x.startswith("model name")]
    skipped = () if "avx512" in cpu else ("jitted-avx2",)
    chosen = [i for i, (name, *_) in enumerate(CHILDREN) if options.only in (None, name)]
    chosen = [i for i in chosen if CHILDREN[i][0] not in skipped]
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, progress(2 * len(chosen)) as say:
        sources = {"baseline": options.baseline, "working tree": options.now}
        homes = [place(source, Path(folder, name)) for name, source in sources.items()]
        for i in chosen:
            found = []
            for home in homes:
                say(f"{CHILDREN[i][0]}, {home.name}")
                found.append(run(i, home, options))
            before, now = found
            lines += [line(CHILDREN[i][0], before.get(k), now.get(k)) for k in before | now]
    about = {"date": time.strftime("%Y-%m-%d %H:%M"), "jax": jax.__version__}
    about |= {"optax": optax.__version__, "processor": (named or [platform.processor()])[0]}
    about |= {"cores": os.cpu_count(), "load": round(os.getloadavg()[1], 1)}
    about |= {"commit": git("describe", "--always", "--dirty"), "baseline": options.baseline}
    about |= {"quick": options.quick, "CPU time": options.busy}
    if skipped and options.only in (None, *skipped):
        console.print("jitted-avx2 is left out: this processor has nothing beyond AVX2.")
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    table = Table(*list(lines[0])[:6] if lines else (), box=None, pad_edge=False)
    for each in lines:
        goal = "" if each["goal"] is None else f"<= {each['goal']:g}"
        texts = (each[key] for key in ("what", "Optax", "version 0.1", "now"))
        table.add_row(*texts, goal, {True: "yes", False: "no", None: ""}[each["reached"]])
    console.print(table)
    if options.json:
        Path(options.json).write_text(json.dumps({**about, "figures": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()

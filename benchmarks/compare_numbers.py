"""Compare the numbers that gradtx computes with those of an earlier version.

Run it with `python -m benchmarks.compare_numbers`. Every row of the earlier version's zoo trains for
eight steps in four dtypes, un-jitted and jitted (the optimizer is an argument then), once with the
earlier version and once with this working tree. Every update and the parameters after every step are
compared. States are not compared, since their layout may change.

A difference is counted in ulps of the largest term. The term of an update is the largest absolute
update of that leaf; that of a parameter is the largest absolute parameter or update of that leaf.
The largest is taken from the baseline, once over the steps before the huge gradient, once for the huge
gradient alone, and once over the steps after it. Otherwise the huge update would hide all other
differences. An ulp is the spacing of the leaf's dtype at the largest term. Real and imaginary parts are
compared separately, and all NaNs are equal. Any other difference from or to a number that is not finite
is infinite. A zero of the other sign is 0 ulp away.

Programs that both sides have in common are compiled once. `JAX_COMPILATION_CACHE_DIR=FOLDER` in the
environment keeps these programs for the next comparison.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

# A table that is written to a file keeps its lines whole.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)

# Rows that differ on purpose (or patterns of `fnmatch` for them), and the reason in one sentence.
_AMPLIFIED = (
    "Newton-Schulz amplifies the last digits of the momentum, which has a shorter form now."
)
_CANCELED = "The parameter passes near zero, so that one rounding of its update counts for many."
_SEVERAL = "Several averages have a shorter form now, and their roundings add up."
_NARROW = (
    "A gradient of 1e200 does not fit into bfloat16; it was NaN a step later, now it is infinite."
)
_LOWER = "A gradient of 1e25 is bounded lower in a matrix, so that sums of products stay finite."
EXPECTED: dict[str, str] = {
    "muon(*": _AMPLIFIED,
    "normuon(*": _AMPLIFIED,
    "adamuon(*": _AMPLIFIED,
    "scion(*": _AMPLIFIED,
    "rmsprop(0.1)": _CANCELED,
    "rmsprop(0.1, eps=0.0)": _CANCELED,
    "masked(scale_by_neuron_rms(*": _LOWER,
    "masked(cautious(keep_norm(scale_by_neuron_rms(*": _LOWER,
    "scale_by_rms(0.99, bias_correction=True)": _CANCELED,
    "scale_by_momentum() / (rms(fading) + 1e-08)": _SEVERAL,
    "rmsprop(fading, momentum=0.9, *": _SEVERAL,
    "chain(clip_by_global_norm(0.5), scale_by_momentum(), *": _SEVERAL,
    "scale_by_momentum(0.9, accumulator_dtype='bfloat16')": _NARROW,
    "adam(0.1, mu_dtype='bfloat16')": _NARROW,
    "scale_by_nadam_momentum(*": "It is linear, and takes gradients of 1e25 as they are when alone.",
}

TOLERANCE = 4  # in ulps
MODES = ("un-jitted", "jitted")
# Compiling is what takes the time, so that only the first dtype has the zoo's large tree.
DTYPES = {"float32": "SHAPES", "bfloat16": "SMALL", "complex64": "SMALL", "float64": "SMALL"}
# The sizes of the gradients. None is huge, about 1e25 in float32: its square overflows.
SIZES = (1.0, 0.01, 0.0, 1.0, 1.0, None, 1.0, 1.0)
PARTS = slice(0, 5), slice(5, 6), slice(6, 8)
ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    # What tests/conftest.py sets: no promotion goes unseen, and every number is the processor's.
    "JAX_PLATFORMS": "cpu",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    # Every program is kept, however small and however soon compiled.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
Run = dict[str, np.ndarray]
Runs = dict[tuple[str, ...], Run]


def record(side: Path, file: Path, only: str) -> None:
    """Train the rows with this process's gradtx, print a line as each begins, and save the runs."""
    import zoo

    import gradtx

    assert side in Path(gradtx.__file__).resolve().parents, f"{gradtx.__file__} is not in {side}"

    def step(tx: Any, params: Any, state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state, params)
        return updates, gradtx.apply_updates(params, updates), state

    def train(code: str, dtype: str, step: Any) -> Run:
        doing, seen, shapes = "does not evaluate", {}, getattr(zoo, DTYPES[dtype])
        try:
            tx, params = zoo.evaluate(code), zoo.tree(dtype, shapes=shapes)
            doing, state = "raises", tx.init(params)
            for seed, size in enumerate(SIZES, 1):
                size = float(jnp.finfo(dtype).max) ** 0.65 if size is None else size
                g = zoo.tree(dtype, seed, shapes, size)
                updates, params, state = step(tx, params, state, g)
                for kind, tree in ("update", updates), ("parameter", params):
                    for path, x in jax.tree.leaves_with_path(tree):
                        seen.setdefault(f"{kind} {jax.tree_util.keystr(path)}", []).append(x)
            return {name: np.stack(xs) for name, xs in seen.items()}
        except Exception as error:
            return {"error": np.array(f"{doing}: {error!r:.200}")}

    codes, found = [row.code for row in zoo.ROWS if only in row.code], {}
    print(len(codes), flush=True)
    # One side begins at the end, so that each finds what the other one compiled.
    for code in codes if side == ROOT else reversed(codes):
        print(code, flush=True)
        for dtype in DTYPES:
            for mode, f in zip(MODES, (step, jax.jit(step)), strict=True):
                with jax.enable_x64(dtype == "float64"):
                    run = train(code, dtype, f)
                found |= {"|".join((code, dtype, mode, name)): x for name, x in run.items()}
    np.savez(file, **found)


def load(file: Path) -> Runs:
    """What was saved, by row, dtype and mode. A file does not know the name of bfloat16."""
    runs: Runs = {}
    for key, x in np.load(file).items():
        *run, name = key.split("|")
        runs.setdefault((*run,), {})[name] = x.view(jnp.bfloat16) if x.dtype.kind == "V" else x
    return runs


def ulps(old: np.ndarray, new: np.ndarray, other: np.ndarray) -> float:
    """The largest difference in ulps, or -1 for none; `other` also counts for the largest term."""
    wide = lambda x: np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x
    a, b, c = (wide(x).astype("float64") for x in (old, new, other))
    equal, nan = a == b, np.isnan(a) & np.isnan(b)
    if np.all(nan | (equal & (np.signbit(a) == np.signbit(b)))):
        return -1.0
    limits, worst = jnp.finfo(old.dtype), 0.0
    for part in PARTS:
        sizes = np.abs([a[part], c[part]])
        largest = np.max(sizes, where=np.isfinite(sizes), initial=float(limits.tiny))
        with np.errstate(all="ignore"):
            ulp = np.ldexp(float(limits.eps), np.frexp(largest)[1] - 1)
            distance = np.nan_to_num(np.abs(a - b)[part] / ulp, nan=np.inf, posinf=np.inf)
        worst = max(worst, np.max(distance, where=~(equal | nan)[part], initial=0.0))
    return float(worst)


def verdict(old: Run, new: Run) -> tuple[float, str]:
    """How far two runs are apart, or -1 for bit for bit equal, and the words for the table."""
    sides = {"the baseline": old, "the working tree": new}
    if errors := [f"{side} {run['error']}" for side, run in sides.items() if "error" in run]:
        return np.inf, ", ".join(errors)
    if old.keys() != new.keys():
        return np.inf, f"on one side alone: {', '.join(sorted(old.keys() ^ new.keys()))}"
    worst, text = -1.0, "equal"
    for name, x in old.items():
        y, update = new[name], old[name.replace("parameter ", "update ", 1)]
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            return np.inf, f"{name} is {y.dtype}{y.shape[1:]}, was {x.dtype}{x.shape[1:]}"
        if (distance := ulps(x, y, update)) > worst:
            worst, text = distance, f"{distance:.3g} ulp, {name}"
    return worst, text


def report(old: Runs, new: Runs) -> int:
    """Print the tables, and return how many rows differ by too much for no known reason."""
    verdicts = {run: verdict(old[run], new[run]) for run in new}
    codes, tally = dict.fromkeys(code for code, *_ in verdicts), Counter()
    counts = Table("equal bit for bit", *MODES, box=None, pad_edge=False)
    rows = Table("differs", "dtype", *MODES, "expected because", box=None, pad_edge=False)
    for code in codes:
        reason = next((why for row, why in EXPECTED.items() if fnmatchcase(code, row)), "")
        worst = max(verdicts[code, dtype, mode][0] for dtype in DTYPES for mode in MODES)
        close = "equal bit for bit" if worst < 0 else f"within {TOLERANCE} ulp"
        far = "further apart as expected" if reason else "further apart"
        tally[close if worst <= TOLERANCE else far] += 1
        for dtype in DTYPES:
            texts = [verdicts[code, dtype, mode][1] for mode in MODES]
            if {*texts} != {"equal"}:
                rows.add_row(*map(escape, (code, dtype, *texts, reason)))
    for dtype in DTYPES:
        equal = (sum(verdicts[code, dtype, mode][0] < 0 for code in codes) for mode in MODES)
        counts.add_row(dtype, *(f"{n} of {len(codes)}" for n in equal))
    for table in (rows, counts) if rows.row_count else (counts,):
        console.print(table, "")
    console.print(f"{len(codes)} rows:", ", ".join(f"{n} {kind}" for kind, n in tally.items()))
    return tally["further apart"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.compare_numbers", description=__doc__)
    parser.add_argument("--baseline", default="2bacfc7", metavar="COMMIT_OR_FOLDER")
    parser.add_argument("--only", default="", metavar="TEXT", help="the rows that hold this text")
    parser.add_argument("--record", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        return record(*options.record, options.only)
    with tempfile.TemporaryDirectory() as name:
        folder, baseline, children = Path(name).resolve(), Path(options.baseline).resolve(), []
        if not baseline.is_dir():
            archive, baseline = folder / "baseline.zip", folder / "baseline"
            command = ["git", "archive", "--output", archive, options.baseline]
            subprocess.run(command, cwd=ROOT, check=True)
            shutil.unpack_archive(archive, baseline)
        settings = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")} | os.environ | ENVIRONMENT
        command = [sys.executable, "-P", __file__, "--only", options.only, "--record"]
        files = folder / "old.npz", folder / "new.npz"
        for side, file in zip((baseline, ROOT), files, strict=True):
            # The rows are the baseline's on both sides, and so is what draws the gradients.
            path = os.pathsep.join(map(str, (side, baseline / "tests", ROOT)))
            env, out = settings | {"PYTHONPATH": path}, subprocess.PIPE
            children.append(
                subprocess.Popen([*command, side, file], env=env, stdout=out, text=True)
            )
        outputs = [child.stdout for child in children]
        columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(
            *columns, TextColumn("{task.description}"), console=console, transient=True
        ) as progress:
            rows = max(int(output.readline() or 0) for output in outputs)
            bar = progress.add_task("", total=rows)
            for code, _ in zip(*outputs, strict=False):
                progress.update(bar, advance=1, description=escape(code.strip()))
        if children[1].wait():  # the side that may fail, and then nothing waits for the other
            children[0].kill()
        if {child.wait() for child in children} != {0}:
            sys.exit("A side failed, for the reason above.")
        old, new = map(load, files)
    if not new:
        sys.exit(f"No row holds {options.only!r}.")
    sys.exit(1 if report(old, new) else 0)


if __name__ == "__main__":
    main()

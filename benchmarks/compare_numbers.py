"""`python -m benchmarks.compare_numbers`: whether an earlier version's numbers are still the same.

Every row of that version's zoo trains for eight steps in four dtypes, un-jitted and jitted (the
optimizer is an argument of the step), once with that version of gradtx and once with this working
tree. Every update is compared, and the parameters after every step. States are not, since their
layout may change.

A difference is counted in ulps of the largest term. The term of an update is the largest absolute
update of that leaf; the term of a parameter is the largest absolute parameter or update of that leaf.
Real and imaginary parts are separate numbers. An ulp is the spacing of the leaf's own dtype at that
term. The largest is taken over the steps before the huge gradient, and again over those from it on:
one huge update would hide the differences of all others. A difference from or to a number that is
not finite is infinite, and a zero of another sign differs by 0 ulp. Two NaNs are the same number.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Rows that differ on purpose (or patterns of `fnmatch` for them), and the reason in one sentence.
EXPECTED: dict[str, str] = {}

TOLERANCE = 4  # in ulps
DTYPES, MODES = ("float32", "bfloat16", "complex64", "float64"), ("un-jitted", "jitted")
# The sizes of the gradients. None is huge, about 1e25 in float32: its square overflows.
SIZES = (1.0, 0.01, 1.0, 0.0, 1.0, 1.0, None, 1.0)
PARTS = slice(0, SIZES.index(None)), slice(SIZES.index(None), None)
ROOT = Path(__file__).resolve().parents[1]
# What tests/conftest.py sets: no promotion goes unseen, and every number is the processor's.
STRICT = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
STRICT |= {"JAX_PLATFORMS": "cpu"}


def record(side: Path, file: Path, only: str) -> None:
    """Train the rows with this process's gradtx, print each as it begins, and save what they did."""
    import zoo

    import gradtx

    assert side in Path(gradtx.__file__).resolve().parents, f"{gradtx.__file__} is not in {side}"

    def step(tx: Any, params: Any, state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state, params)
        return updates, gradtx.apply_updates(params, updates), state

    steps = dict(zip(MODES, (step, jax.jit(step)), strict=True))

    def train(code: str, dtype: str, mode: str) -> dict[str, np.ndarray]:
        try:
            tx, params, seen = zoo.evaluate(code), zoo.tree(dtype), {}
        except Exception as error:
            return {"error": np.array(f"does not evaluate: {error!r}")}
        try:
            state = tx.init(params)
            for seed, size in enumerate(SIZES, 1):
                size = float(jnp.finfo(dtype).max) ** 0.65 if size is None else size
                g = zoo.tree(dtype, seed, size=size)
                updates, params, state = steps[mode](tx, params, state, g)
                for kind, tree in ("update", updates), ("parameter", params):
                    for path, x in jax.tree.leaves_with_path(tree):
                        seen.setdefault(f"{kind} {jax.tree_util.keystr(path)}", []).append(x)
            return {name: np.stack(xs) for name, xs in seen.items()}
        except Exception as error:
            return {"error": np.array(f"raises {error!r}")}

    codes, found = [row.code for row in zoo.ROWS if only in row.code], {}
    print(len(codes), flush=True)
    for code in codes:
        print(code, flush=True)
        for dtype, mode in ((dtype, mode) for dtype in DTYPES for mode in MODES):
            with jax.enable_x64(dtype == "float64"):
                seen = train(code, dtype, mode)
            found |= {f"{code}|{dtype}|{mode}|{name}": x for name, x in seen.items()}
        jax.clear_caches()  # the next row shares little with this one
    np.savez(file, **found)


def ulps(old: np.ndarray, new: np.ndarray, *others: np.ndarray) -> float | None:
    """The largest difference in ulps, or None for none; `others` also count for the largest term."""
    a, b, *terms = (real(x) for x in (old, new, old, *others))
    equal, nan = a == b, np.isnan(a) & np.isnan(b)
    if np.all(nan | (equal & (np.signbit(a) == np.signbit(b)))):
        return None
    limits, worst = jnp.finfo(old.dtype), 0.0
    for part in PARTS:
        sizes = np.concatenate([np.abs(x[part]).ravel() for x in terms])
        largest = np.max(sizes[np.isfinite(sizes)], initial=float(limits.tiny))
        ulp = np.ldexp(float(limits.eps), np.frexp(largest)[1] - 1)
        with np.errstate(all="ignore"):
            distance = np.nan_to_num(np.abs(a[part] - b[part]) / ulp, nan=np.inf, posinf=np.inf)
        worst = max(worst, np.max(np.where((equal | nan)[part], 0.0, distance), initial=0.0))
    return float(worst)


def real(x: np.ndarray) -> np.ndarray:
    """The numbers in float64, real and imaginary parts apart."""
    return np.stack([x.real, x.imag], -1).astype(float) if np.iscomplexobj(x) else x.astype(float)


def verdict(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> tuple[float, str]:
    """How far two runs are apart (-1: they are equal bit for bit), and the words for the table."""
    if "error" in old and "error" in new:
        return -1.0, f"nothing to compare: either side {new['error']}"
    if "error" in old or "error" in new:
        side, run = ("baseline", old) if "error" in old else ("working tree", new)
        return np.inf, f"the {side} alone {run['error']}"
    if old.keys() != new.keys():
        return np.inf, f"on one side alone: {', '.join(sorted(old.keys() ^ new.keys()))}"
    worst, text = -1.0, "equal"
    for name, x in old.items():
        y = new[name]
        if (x.dtype, x.shape) != (y.dtype, y.shape):
            return np.inf, f"{name} is {y.dtype}{y.shape[1:]}, was {x.dtype}{x.shape[1:]}"
        distance = ulps(x, y, old[name.replace("parameter ", "update ", 1)])
        if distance is not None and distance > worst:
            worst, text = distance, f"{distance:.3g} ulp, {name}"
    return worst, text


def runs(file: Path) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """What was saved, by row, dtype and mode. A file does not know the name of bfloat16."""
    saved: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for key, x in np.load(file).items():
        *run, name = key.split("|")
        saved.setdefault((*run,), {})[name] = x.view(jnp.bfloat16) if x.dtype.kind == "V" else x
    return saved


def both(baseline: Path, only: str, folder: Path) -> list[Path]:
    """Run the two sides beside each other, under one bar, and return their files."""
    files, children = [folder / "old.npz", folder / "new.npz"], []
    for side, file in zip((baseline, ROOT), files, strict=True):
        # The rows are the baseline's on both sides, and so is what draws the gradients.
        path = os.pathsep.join(map(str, (side, baseline / "tests", ROOT)))
        command = [sys.executable, "-P", __file__, "--only", only, "--record", side, file]
        environment = os.environ | STRICT | {"PYTHONPATH": path}
        with file.with_suffix(".log").open("w") as log:
            children.append(
                subprocess.Popen(command, env=environment, stdout=-1, stderr=log, text=True)
            )
    counts = [child.stdout.readline() for child in children]
    with progress(int(counts[0] or 0)) as say:
        for code, _ in zip(*(child.stdout for child in children), strict=False):
            say(code.strip())
        for child, file in zip(children, files, strict=True):
            child.communicate()
            if child.returncode:
                sys.exit(f"A side failed:\n{file.with_suffix('.log').read_text()[-3000:]}")
    return files


def unpacked(baseline: str, folder: Path) -> Path:
    """The folder of a baseline: a commit's files are written into `folder`."""
    if Path(baseline).is_dir():
        return Path(baseline).resolve()
    archive = ["git", "archive", "--format=tar", baseline]
    files = subprocess.run(archive, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(files)) as tar:
        tar.extractall(folder / "baseline", filter="data")
    return (folder / "baseline").resolve()


def report(old: dict[tuple[str, ...], Any], new: dict[tuple[str, ...], Any]) -> int:
    """Print the tables, and return the number of rows that differ by too much for no known reason."""
    verdicts = {run: verdict(old[run], new[run]) for run in old}
    codes = list(dict.fromkeys(code for code, *_ in verdicts))
    counts = Table("equal bit for bit", *MODES, box=None, pad_edge=False)
    for dtype in DTYPES:
        equal = (sum(verdicts[code, dtype, mode][0] < 0 for code in codes) for mode in MODES)
        counts.add_row(dtype, *(f"{n} of {len(codes)}" for n in equal))
    rows = Table("row", "dtypes", *MODES, "expected", box=None, pad_edge=False)
    bitwise = near = known = far = 0
    for code in codes:
        dtypes: dict[tuple[str, ...], list[str]] = {}
        for dtype in DTYPES:
            cells = tuple(verdicts[code, dtype, mode][1] for mode in MODES)
            dtypes.setdefault(cells, []).append(dtype)
        worst = max(verdicts[code, dtype, mode][0] for dtype in DTYPES for mode in MODES)
        reason = next((EXPECTED[x] for x in EXPECTED if x == code or fnmatchcase(code, x)), "")
        bitwise, near = bitwise + (worst < 0), near + (0 <= worst <= TOLERANCE)
        known, far = (
            known + (worst > TOLERANCE and reason != ""),
            far + (worst > TOLERANCE and not reason),
        )
        for cells, names in dtypes.items():
            if cells != ("equal",) * len(MODES):
                rows.add_row(code, ", ".join(names), *cells, reason, end_section=True)
    if rows.row_count:
        console.print(rows, "")
    console.print(counts, "")
    console.print(
        f"{len(codes)} rows: {bitwise} are equal bit for bit, {near} differ by at most {TOLERANCE} ulp, "
        f"{known} by more as expected, {far} by more and unexpectedly."
    )
    return far


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.compare_numbers", description=__doc__)
    parser.add_argument("--baseline", default="2bacfc7", metavar="COMMIT_OR_FOLDER")
    parser.add_argument("--only", default="", metavar="TEXT", help="the rows that hold this text")
    parser.add_argument("--record", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record:
        return record(*options.record, options.only)
    with tempfile.TemporaryDirectory() as folder:
        baseline = unpacked(options.baseline, Path(folder))
        old, new = map(runs, both(baseline, options.only, Path(folder)))
    sys.exit(1 if report(old, new) else 0)


if __name__ == "__main__":
    main()

"""Results as JSON: the numbers, and when, where and of which version they are."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from benchmarks import measure
from benchmarks.runner import git

Results = dict[str, Any]  # {"about": {...}, "benchmarks": [entry of runner.run, ...]}
PACKAGES = "jax", "jaxlib", "optax", "numpy", "gradtx"


def processor() -> str:
    """The name of the processor, and the widest instructions that it has."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line[:10] == "model name"]
    widest = next((x for x in ("avx512f", "avx2") if x in text), "")
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({widest})" if widest else name


def load() -> float | None:
    """The processes that wanted to run in the last minute, on average; None where it is not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def measured_tree(source: str | None) -> Results:
    """The commit that is measured, and whether files differ from it; `--source` names another one."""
    try:
        if source is None:
            return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
        if not Path(source).is_dir():
            return {"commit": git("rev-parse", f"{source}^{{commit}}"), "dirty": False}
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no history
        source = "unknown"
    return {"commit": f"folder {Path(source).name}", "dirty": False}


def about(source: str | None, quick: bool) -> Results:
    """When, where and of which version the numbers are."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **measured_tree(source),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": f"{device.platform} {device.device_kind}",
        "clock": measure.clock.__name__,
        "quick": quick,
        "load_before": load(),
    }


def save(results: Results, path: Path) -> None:
    """Write results to a file; an infinite number or a NaN raises `ValueError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


def merged(old: Results, new: Results) -> Results:
    """The old results, in which the benchmarks that were measured again are replaced."""
    again = {entry["name"]: entry for entry in new["benchmarks"]}
    kept = [again.pop(entry["name"], entry) for entry in old["benchmarks"]]
    names = [entry["name"] for entry in new["benchmarks"]]
    parts = [
        part | {"names": left}
        for part in old["about"].get("again", [])
        if (left := [name for name in part["names"] if name not in names])
    ]
    parts.append(new["about"] | {"names": names})
    about = old["about"] | {"again": parts}
    return old | {"about": about, "benchmarks": [*kept, *again.values()]}


def read(path: str | Path) -> Results:
    """Read results; a file that does not hold any ends the process with a sentence."""
    try:
        results = json.loads(Path(path).read_text())
    except OSError as error:
        sys.exit(f"benchmarks: cannot read {path}: {error.strerror}.")
    except ValueError as error:
        sys.exit(f"benchmarks: {path} is not valid JSON: {error}.")
    if not isinstance(results, dict) or not {"about", "benchmarks"} <= results.keys():
        sys.exit(f"benchmarks: {path} does not hold results of `python -m benchmarks`.")
    return results


def numbers(results: Results) -> dict[tuple[str, str], tuple[Results, Results]]:
    """Benchmark and number by the name of the benchmark and the case."""
    return {
        (entry["name"], number["case"]): (entry, number)
        for entry in results["benchmarks"]
        for number in entry["numbers"]
    }

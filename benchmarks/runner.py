"""Every benchmark runs in a process of its own, with the gradtx of the working tree or of any commit."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any, Literal

from benchmarks.registry import BENCHMARKS, Benchmark, Number

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 600  # seconds; a benchmark that takes longer is recorded as failed


def device() -> Literal["cpu", "gpu"]:
    """The kind of device that JAX is asked for in the environment: a CPU, unless a GPU is named."""
    named = os.environ.get("JAX_PLATFORMS", "")
    return "gpu" if any(x in named for x in ("cuda", "rocm", "gpu")) else "cpu"


def git(*arguments: str) -> str:
    """What git prints in this clone."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def placed(source: str, folder: Path) -> Path:
    """Put the gradtx of a commit or of a folder, and nothing else, into `folder`."""
    folder.mkdir(parents=True)
    if Path(source).is_dir():
        (folder / "gradtx").symlink_to(Path(source).resolve() / "gradtx")
    else:
        try:
            git("archive", f"--output={folder}.tar", source, "gradtx")
        except subprocess.CalledProcessError:
            sys.exit(f"benchmarks: {source} is neither a folder nor a commit that holds gradtx.")
        shutil.unpack_archive(f"{folder}.tar", folder)
    if not (folder / "gradtx" / "__init__.py").exists():  # or an installed gradtx would be measured
        sys.exit(f"benchmarks: the folder {source} does not hold gradtx.")
    return folder


def run(
    benchmark: Benchmark, home: Path, quick: bool, on_number: Callable[[Number], None]
) -> dict[str, Any]:
    """Run a benchmark with the gradtx in the folder `home`, and return its entry for the file."""
    entry: dict[str, Any] = {"name": benchmark.name, "group": benchmark.group}
    entry |= {"what": benchmark.what, "against": benchmark.against, "numbers": []}
    entry["because"] = " ".join(benchmark.because.split())
    if reason := benchmark.skip():
        return entry | {"skipped": reason}
    environment = {"JAX_PLATFORMS": "cpu"} | os.environ
    environment["PYTHONPATH"] = f"{home}{os.pathsep}{ROOT}"
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {benchmark.xla_flags}".strip()
    # With -P the current folder, and the gradtx that lies in it, is not on the path.
    command = [sys.executable, "-P", "-m", "benchmarks", "--worker", benchmark.name]
    command += ["--quick"] * quick
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, cwd=ROOT, **pipes) as child:
        timer = Timer(TIMEOUT, child.kill)
        timer.start()
        assert child.stdout is not None and child.stderr is not None
        for line in child.stdout:
            number = Number(*json.loads(line))
            entry["numbers"].append(number_entry(benchmark, number))
            on_number(number)
        message = child.stderr.read().strip().splitlines()
        timer.cancel()
    if child.returncode:
        late = f"no end after {TIMEOUT} seconds"
        entry["failed"] = late if child.returncode < 0 else error_of(message)
    return entry


def error_of(message: list[str]) -> str:
    """The line of a traceback that names the error; JAX prints other lines below it."""
    errors = [line for line in message if re.match(r"[\w.]+(?:Error|Exception|Interrupt)\b", line)]
    return (errors or message or ["no message"])[-1]


def number_entry(benchmark: Benchmark, number: Number) -> dict[str, Any]:
    """A number as it stands in the file, with its goal and whether the goal is reached."""
    goal = benchmark.goal_of(number)
    entry = number._asdict() | {"details": {k: list(v) for k, v in number.details.items()}}
    del entry["stated"]
    if goal is None:
        return entry | {"goal": None, "reached": None}
    return entry | {"goal": list(goal), "reached": goal.reached(number)}


def work(name: str, quick: bool) -> None:
    """In the child process: print each number as a line of JSON as soon as it is measured."""
    for number in BENCHMARKS[name].function(quick):
        print(json.dumps(number), flush=True)

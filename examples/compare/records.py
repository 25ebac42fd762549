"""What a comparison writes: a file per study while it runs, and a file with everything at the end."""

import json
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import gradtx

from .entrants import Entrant
from .errors import CompareError
from .problem import Problem
from .provenance import code_of, made
from .settings import Budget

FIELDS = ("title", "why", "source", "steps", "score_name", "targets", "costly", "vectors")
PUBLISHED = Path(__file__).with_name("results.json")


class Study(NamedTuple):
    """One optimizer on one problem, with the budget that it has there."""

    problem: Problem
    entrant: Entrant
    budget: Budget

    @property
    def key(self) -> str:
        return f"{self.problem.name}--{self.entrant.name}"

    def fingerprint(self) -> dict[str, Any]:
        """What a record depends on. A record with another fingerprint is not taken for this study."""
        return {
            "optimizer": repr(self.entrant),
            "problem": [self.problem.name, self.problem.steps, list(self.problem.targets)],
            "budget": json.loads(json.dumps(self.budget._asdict())),
            "code": code_of(self.problem),
            "gradtx": gradtx.__version__,
        }


def save(folder: Path, study: Study, record: dict[str, Any]) -> None:
    """Write the record of a study; a file is complete or is not there."""
    path = folder / f"{study.key}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"fingerprint": study.fingerprint(), "record": record}))
    part.replace(path)


def saved(folder: Path, study: Study) -> dict[str, Any] | None:
    """The record of a study that an earlier run finished, or None."""
    try:
        content = json.loads((folder / f"{study.key}.json").read_text())
    except (OSError, ValueError):
        return None
    if content.get("fingerprint") != study.fingerprint() or "error" in content["record"]:
        return None
    return content["record"]


def collect(
    studies: list[Study], found: list[dict[str, Any]], costs: dict[str, Any], given: str
) -> Any:
    """Everything that the page is made from."""
    problems = {study.problem.name: study.problem for study in studies}
    return {
        "command": given,
        "made": made(),
        "versions": {
            "gradtx": gradtx.__version__,
            "jax": jax.__version__,
            "optax": optax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "processor": processor(),
        "cores": os.cpu_count(),
        "problems": {
            name: {field: getattr(problem, field) for field in FIELDS}
            for name, problem in problems.items()
        },
        "budgets": {study.problem.name: study.budget._asdict() for study in studies},
        "studies": found,
        "costs": costs,
    }


def write(path: Path, results: Any) -> None:
    """Write all results, one study per line, so that a difference of two files can be read."""
    lines = {key: json.dumps(x) for key, x in results.items() if key != "studies"}
    studies = ",\n".join(json.dumps(x) for x in results["studies"])
    body = "".join(f'"{key}": {x},\n' for key, x in lines.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{\n{body}"studies": [\n{studies}\n]\n}}\n')


def read(path: Path) -> Any:
    """The results in a file.

    Raises:
        CompareError: if the file cannot be read, or holds something else.
    """
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise CompareError(f"cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        raise CompareError(f"{path} is not JSON: {error}") from None
    if not isinstance(results, dict) or not {"problems", "studies", "costs"} <= set(results):
        raise CompareError(f"{path} does not hold the results of a comparison.")
    return results


def finished(results: Any, problem: str) -> dict[str, dict[str, Any]]:
    """The records of a problem by optimizer, without those that ended in an error."""
    return {
        x["optimizer"]: x
        for x in results["studies"]
        if x["problem"] == problem and "error" not in x
    }


def processor() -> str:
    """The name of the processor, as the system states it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())

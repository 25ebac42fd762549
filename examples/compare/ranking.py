"""The rows of the tables: what the records of one problem say about each optimizer."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..noise import standard_error
from .agreement import significant
from .records import finished
from .statistics import near_best


class Row(NamedTuple):
    """One optimizer on one problem.

    Attributes:
        name: its name.
        mean: the mean score on the fresh seeds, lower is better.
        error: the standard error of the mean.
        better_than: how many of the others are significantly worse.
        worse_than: how many of the others are significantly better.
        steps: for each target, the median over the seeds of the steps to it; infinite if at least half
            of the seeds did not reach it.
        near_best: the share of the settings that make 90% of the progress of the best one.
        record: everything that was recorded.
    """

    name: str
    mean: float
    error: float
    better_than: int
    worse_than: int
    steps: list[float]
    near_best: float
    record: dict[str, Any]


def ranked(results: Any, problem: str) -> list[Row]:
    """The rows of one problem, from the lowest mean score to the highest."""
    records, pairs = finished(results, problem), significant(results, problem)
    rows = [
        Row(
            name,
            float(np.mean(x["scores"])),
            standard_error(np.asarray(x["scores"])),
            sum(a == name for a, _ in pairs),
            sum(b == name for _, b in pairs),
            [median_steps(x["steps_to"][str(t)]) for t in results["problems"][problem]["targets"]],
            near_best([float(np.mean(row[2:])) for row in x["tried"]], x["start"]),
            x,
        )
        for name, x in records.items()
    ]
    return sorted(rows, key=lambda row: row.mean)


def median_steps(steps: list[int | None]) -> float:
    """The median over seeds, where a seed that did not reach the target counts as infinite."""
    return float(np.median([np.inf if x is None else x for x in steps]))


def best_group(results: Any, problem: str) -> list[str]:
    """The optimizer with the lowest mean score, and those that are not significantly worse than it."""
    pairs = significant(results, problem)
    best, *others = (row.name for row in ranked(results, problem))
    return [best, *(name for name in others if (best, name) not in pairs)]


def for_all(results: Any) -> list[str]:
    """The problems on which all optimizers ran: the cheap ones with matrices."""
    problems = results["problems"].items()
    return [name for name, about in problems if not about["costly"] and not about["vectors"]]


def steps_of_all(results: Any, problems: list[str]) -> dict[str, list[float]]:
    """The steps to every target of these problems, for every optimizer that ran on all of them."""
    rows = {problem: {row.name: row for row in ranked(results, problem)} for problem in problems}
    names = [name for name in rows[problems[0]] if all(name in x for x in rows.values())]
    return {name: [s for p in problems for s in rows[p][name].steps] for name in names}


def decay_of(record: dict[str, Any]) -> str:
    """The weight decay of the optimizer, or nothing where it has none."""
    return f"{record['weight_decay']:g}" if record.get("weight_decay") else ""


def state_on_first(results: Any) -> dict[str, int]:
    """The bytes of the states on the first problem."""
    first = next(iter(results["problems"]))
    return {
        x["optimizer"]: x["state_bytes"]
        for x in results["studies"]
        if x["problem"] == first and "state_bytes" in x
    }


def with_error(mean: float, error: float) -> str:
    """A mean and its standard error, with two digits of the error and as many places of the mean."""
    places = 3 if error <= 0 else min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{mean:.{places}f} ± {error:.{places}f}"


def steps_text(x: float) -> str:
    return f"{x:.0f}" if np.isfinite(x) else "–"


def second_text(record: dict[str, Any]) -> str:
    """The chosen second number with its name, such as `b1=0.9`."""
    if record["second_name"] is None:
        return ""
    value = record["second"]
    shown = value[0] if isinstance(value, list | tuple) else value
    return f"{record['second_name'].split('.')[-1]}={shown:g}"

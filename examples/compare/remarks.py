"""What the results say about claims in papers. Every sentence is made from the results."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .ranking import ranked
from .records import finished

# Published ratios of steps to the same loss: optimizer, against (the best of these), ratio, where.
PUBLISHED_RATIOS = (
    (
        *("muon", ("adamw", "adamw(b2=0.95)"), 0.58),
        "the modded-nanogpt track (3,250 steps against 5,625 of an Adam that counts as undertuned)",
    ),
    (
        *("soap_muon", ("muon",), 0.83),
        "the same track, where the record (2,690 steps) is SOAP-Muon with further parts",
    ),
)
# Why an optimizer may end where it starts.
REASONS = {
    "adamh": "It keeps the norm of every matrix, so one that starts at zero, as here, never moves.",
    "muonh": "It keeps the norm of every matrix, so one that starts at zero, as here, never moves.",
}


def remarks(results: Any, problem: str) -> Iterator[str]:
    """The sentences that belong to a problem."""
    for name, record in finished(results, problem).items():
        if record["diverged"] == len(record["scores"]):
            reason = REASONS.get(name, "No setting that was tried is better.")
            yield f"`{name}` ends no lower than it starts. {reason}"
    if problem == "text":
        yield from (x for row in PUBLISHED_RATIOS if (x := _ratio(results, problem, *row)))


def _ratio(
    results: Any, problem: str, name: str, others: tuple[str, ...], published: float, where: str
) -> str:
    records = finished(results, problem)
    others = tuple(other for other in others if other in records)
    if name not in records or not others:
        return ""
    against = min(others, key=lambda other: float(np.mean(records[other]["scores"])))
    goal = float(np.mean(records[against]["scores"]))
    curve = records[name]["curve"][1]
    steps = results["problems"][problem]["steps"]
    share = crossing(curve, goal)
    rows = {row.name: row for row in ranked(results, problem)}
    if share is None:
        reached = f"`{name}` does not reach the final score of `{against}` here"
    else:
        reached = (
            f"`{name}` reaches the final score of `{against}` after {share * steps:.0f} of {steps} "
            f"steps, a ratio of {share:.2f}"
        )
    return (
        f"{reached} (scores {rows[name].mean:.3f} ± {rows[name].error:.3f} and "
        f"{rows[against].mean:.3f} ± {rows[against].error:.3f}). Published is a ratio of "
        f"{published:.2f}, from {where}. There, each run of another length has a schedule of its own; "
        "here, one schedule of a fixed length is cut, which is a harder test."
    )


def crossing(curve: list[float], goal: float) -> float | None:
    """The share of a run after which its curve first is at or below a goal, between evaluations."""
    values = np.array(curve)
    if not (values <= goal).any():
        return None
    after = int(np.argmax(values <= goal))
    if after == 0:
        return 0.0
    above, below = values[after - 1], values[after]
    return float((after - 1 + (above - goal) / (above - below)) / (len(values) - 1))

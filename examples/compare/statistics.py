"""Scores and steps of runs, which optimizer is better than which, and performance profiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..noise import told_apart


def capped(curve: np.ndarray) -> tuple[float, bool]:
    """The score at the end, and whether the run diverged. Then the score is that at the start."""
    lost = not (np.isfinite(curve).all() and curve[-1] < curve[0])
    return float(curve[0] if lost else curve[-1]), lost


def first_step_below(curve: np.ndarray, steps: Sequence[int], target: float) -> int | None:
    """The first step with a score of at most `target`, or None if there is none."""
    reached = np.asarray(curve) <= target
    return int(steps[int(np.argmax(reached))]) if reached.any() else None


def better(scores: dict[str, Sequence[float]]) -> set[tuple[str, str]]:
    """All pairs of names of which the first is significantly better, that is, lower."""
    arrays = {name: np.asarray(x) for name, x in scores.items()}
    means = {name: float(x.mean()) for name, x in arrays.items()}
    found = set()
    for pair in told_apart(arrays):
        a, b = sorted(pair, key=means.__getitem__)
        found.add((a, b))
    return found


def near_best(tried: Sequence[float], start: float, share: float = 0.9) -> float:
    """The share of settings that make at least `share` of the progress of the best one.

    Progress is how far the score falls below the one at the start.
    """
    best = min(tried)
    return (
        float(np.mean([start - x >= share * (start - best) for x in tried])) if best < start else 0
    )


def profile(costs: dict[str, list[float]], factors: Any) -> dict[str, list[float]]:
    """For each name, the share of columns whose cost is within each factor of the lowest cost.

    The performance profile of E. Dolan and J. Moré (2002), as AlgoPerf uses it (arXiv:2306.07179).
    A target that was not reached has an infinite cost.
    """
    table = np.array(list(costs.values()), dtype=float)
    best = table.min(axis=0, keepdims=True)
    # A target that nobody reached belongs to no one.
    ratio = np.where(np.isfinite(best), table / np.where(np.isfinite(best), best, 1.0), np.inf)
    return {
        name: [float(np.mean(row <= factor)) for factor in factors]
        for name, row in zip(costs, ratio, strict=True)
    }

"""One optimizer on one problem: settings are chosen on a few seeds, and reported on fresh ones."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from .entrants import Entrant
from .problem import Problem
from .provenance import made
from .settings import Budget, Setting, first_settings, further
from .statistics import capped, first_step_below
from .trial import steps_at, trial


def study(problem: Problem, entrant: Entrant, budget: Budget) -> dict[str, Any]:
    """What is recorded of one optimizer on one problem, as JSON can hold it.

    A run whose score is not finite, or not below that at its start, counts as diverged, with the score
    at the start: no optimizer gains by a seed that is left out.

    The settings are chosen by the mean of the first score over the seeds of choosing. While the best
    learning rate is at an edge of those that were tried, the next one beyond it is tried as well.
    """
    begin = time.process_time()
    data, run = problem.load(), trial(problem)

    def curves(setting: Setting, seed: int) -> tuple[np.ndarray, np.ndarray]:
        tx = entrant.made(*setting, problem.steps)
        choose, report = run(tx, jax.random.key(seed), data)
        return np.asarray(choose), np.asarray(report)

    tried: dict[Setting, list[float]] = {}
    extended = choose(tried, curves, entrant, budget)
    best = min(tried, key=lambda setting: np.mean(tried[setting]))
    fresh = [curves(best, seed)[1] for seed in budget.fresh]
    ends = [capped(curve) for curve in fresh]
    quantiles = np.quantile(
        [np.minimum(np.nan_to_num(c, nan=c[0]), c[0]) for c in fresh], Q, axis=0
    )
    return {
        "problem": problem.name,
        "optimizer": entrant.name,
        "text": repr(entrant.made(*best, problem.steps)),
        "rate": best[0],
        "second": best[1],
        "second_name": entrant.second,
        "weight_decay": weight_decay(entrant.tx),
        "tried": [[*setting, *rounded(scores)] for setting, scores in tried.items()],
        "extended": extended,
        "at_edge": bool(further([rate for rate, _ in tried], best[0], 1)),
        "start": rounded([float(np.mean([c[0] for c in fresh]))])[0],
        "scores": rounded([end for end, _ in ends]),
        "diverged": sum(lost for _, lost in ends),
        "steps_to": {
            str(target): [first_step_below(c, steps_at(problem), target) for c in fresh]
            for target in problem.targets
        },
        "curve": [rounded(row) for row in quantiles],
        "state_bytes": state_bytes(problem, entrant.made(*best, problem.steps), data),
        "seconds": round(time.process_time() - begin, 2),
        "made": made(),
    }


Q = (0.1, 0.5, 0.9)  # the quantiles of the learning curves that are recorded


def choose(
    tried: dict[Setting, list[float]],
    curves: Callable[[Setting, int], tuple[np.ndarray, np.ndarray]],
    entrant: Entrant,
    budget: Budget,
) -> int:
    """Fill `tried` with the scores of all settings, and return how often the rates were extended."""
    settings = first_settings(entrant, budget)
    values = list(dict.fromkeys(second for _, second in settings))
    for extended in range(budget.extensions + 1):
        for setting in settings:
            tried[setting] = [capped(curves(setting, seed)[0])[0] for seed in budget.choosing]
        rate, _ = min(tried, key=lambda setting: np.mean(tried[setting]))
        rates = further([rate for rate, _ in tried], rate, budget.seconds // len(values))
        if not rates or extended == budget.extensions:
            return extended
        settings = [(rate, second) for rate in rates for second in values]
    raise AssertionError("the loop always returns")


def state_bytes(problem: Problem, tx: Any, data: Any) -> int:
    """The bytes of the optimizer's state on this problem."""

    def init(key: jax.Array, data: Any) -> Any:
        return tx.init(problem.draw(key, data)[0])

    state = jax.eval_shape(init, jax.random.key(0), data)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def weight_decay(tx: Any) -> float:
    """The largest rate of weight decay in an optimizer, or 0."""
    return max(
        (
            float(x)
            for path, x in jax.tree_util.tree_leaves_with_path(tx)
            if getattr(path[-1], "name", None) == "weight_decay" and isinstance(x, float)
        ),
        default=0.0,
    )


def rounded(numbers: Any) -> list[float]:
    """Numbers with four significant digits, so that the file of results stays small."""
    return [float(f"{x:.4g}") for x in numbers]

"""Which differences are more than noise: standard errors, and Welch's test with Holm's correction."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.special import stdtr


def standard_error(values: np.ndarray) -> float:
    """The standard error of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def welch(a: np.ndarray, b: np.ndarray) -> float:
    """The p-value of Welch's test that two means are equal, also for samples that do not vary."""
    squares = np.array([standard_error(x) ** 2 if np.ptp(x) else 0.0 for x in (a, b)])
    difference = abs(float(np.mean(a) - np.mean(b)))
    if not squares.any():
        return float(a[0] == b[0])
    freedom = squares.sum() ** 2 / (squares**2 / [len(a) - 1, len(b) - 1]).sum()
    return float(2 * stdtr(freedom, -difference / squares.sum() ** 0.5))


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which hypotheses are rejected: one of them wrongly with a probability of at most `level`.

    The p-values are taken in order, each at `level` divided by the number of those that are left, until
    one is kept (S. Holm, 1979).
    """
    rejected = [False] * len(p_values)
    for rank, i in enumerate(np.argsort(p_values)):
        if p_values[i] > level / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def told_apart(samples: dict[str, np.ndarray], level: float = 0.05) -> set[frozenset[str]]:
    """The pairs of names whose means differ by more than noise, where all pairs are compared."""
    pairs = list(combinations(samples, 2))
    rejected = holm([welch(samples[a], samples[b]) for a, b in pairs], level)
    return {frozenset(pair) for pair, differs in zip(pairs, rejected, strict=True) if differs}


def near_lowest(samples: dict[str, np.ndarray], level: float = 0.05) -> list[str]:
    """The name with the lowest mean, and those whose means do not differ from it by more than noise."""
    first, *others = sorted(samples, key=lambda name: float(np.mean(samples[name])))
    rejected = holm([welch(samples[first], samples[name]) for name in others], level)
    return [first, *(name for name, differs in zip(others, rejected, strict=True) if not differs)]

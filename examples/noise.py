"""Which differences are more than noise: standard errors, and Welch's test with Holm's correction."""

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


def told_apart(samples: dict[str, np.ndarray], level: float = 0.05) -> set[frozenset[str]]:
    """The pairs of names whose means differ by more than noise.

    All pairs are compared. Holm's correction keeps the probability of even one wrong pair below `level`.
    """
    pairs = list(combinations(samples, 2))
    p_values = [welch(samples[a], samples[b]) for a, b in pairs]
    found = set()
    for rank, i in enumerate(np.argsort(p_values)):
        if p_values[i] > level / (len(pairs) - rank):
            break
        found.add(frozenset(pairs[i]))
    return found

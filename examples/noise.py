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
    return float(_p_values({"a": a, "b": b}, np.array([0]), np.array([1]))[0])


def _p_values(samples: dict[str, np.ndarray], i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The p-values of Welch's test for the pairs of the samples `i` and `j`."""
    arrays = list(samples.values())
    means = np.array([np.mean(x) for x in arrays])
    squares = np.array([standard_error(x) ** 2 if np.ptp(x) else 0.0 for x in arrays])
    others = np.array([len(x) - 1 for x in arrays])
    total, difference = squares[i] + squares[j], np.abs(means[i] - means[j])
    varies = total > 0
    divisor = np.where(varies, total, 1.0)
    spread = squares[i] ** 2 / others[i] + squares[j] ** 2 / others[j]
    freedom = divisor**2 / np.where(varies, spread, 1.0)
    return np.where(varies, 2 * stdtr(freedom, -difference / divisor**0.5), difference == 0)


def holm(p_values: Sequence[float] | np.ndarray, level: float = 0.05) -> list[bool]:
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
    rejected = holm(_p_values(samples, *np.triu_indices(len(samples), 1)), level)
    return {frozenset(pair) for pair, differs in zip(pairs, rejected, strict=True) if differs}

"""The settings that are tried: learning rates times values of a second number, equally many for all."""

import itertools
from typing import NamedTuple

import numpy as np

from .entrants import Entrant


class Budget(NamedTuple):
    """How much every optimizer may try on a problem.

    Attributes:
        rates: how many learning rates are tried first.
        decades: how many decades these rates span.
        seconds: how many values of the second number are tried with each rate.
        choosing: the seeds with which the settings are chosen.
        fresh: the seeds with which the chosen setting is reported, none of them among the others.
        extensions: how often the rates may be extended, where the best one is at an edge.
    """

    rates: int
    decades: float
    seconds: int
    choosing: tuple[int, ...]
    fresh: tuple[int, ...]
    extensions: int

    @property
    def settings(self) -> int:
        """How many settings are tried first."""
        return self.rates * self.seconds


def budget(costly: bool, quick: bool, first_seed: int = 0) -> Budget:
    """The budget of the cheap problems, or of the costly ones; a small one for a quick look."""
    start, fresh = first_seed, first_seed + 1000
    if quick:
        return Budget(4, 1.5, 1, (start, start + 1), tuple(range(fresh, fresh + 5)), 2)
    choosing = tuple(range(start, start + 3))
    if costly:
        return Budget(5, 2.0, 1, choosing, tuple(range(fresh, fresh + 5)), 6)
    return Budget(5, 2.0, 3, choosing, tuple(range(fresh, fresh + 20)), 8)


Setting = tuple[float, float | tuple[float, ...] | None]


def first_settings(entrant: Entrant, given: Budget) -> list[Setting]:
    """All settings that are tried first.

    An optimizer without a second number tries as many settings as the others, all of them rates.
    """
    values = second_values(entrant, given)
    count = given.settings // len(values)
    rates = entrant.middle * np.logspace(-given.decades / 2, given.decades / 2, count)
    return [(float(f"{r:.4g}"), s) for r, s in itertools.product(rates, values)]


def second_values(entrant: Entrant, given: Budget) -> tuple:
    """The values of the second number; the middle one where there is only one to try."""
    values = entrant.seconds
    return values if given.seconds >= len(values) else (values[len(values) // 2],)


def further(rates: list[float], best: float, count: int) -> list[float]:
    """The next rates below or above, if the best one is at an edge of those that were tried."""
    ordered = sorted(set(rates))
    factor = ordered[1] / ordered[0]
    if best == ordered[0]:
        factor = 1 / factor
    elif best != ordered[-1]:
        return []
    return [float(f"{best * factor**i:.4g}") for i in range(1, count + 1)]

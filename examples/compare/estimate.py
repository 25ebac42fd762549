"""How long a run will take, from the times of the published results."""

import functools

from .errors import CompareError
from .records import PUBLISHED, Study, read
from .settings import Budget

GUESS = {False: 15.0, True: 120.0}  # seconds of a study that was never run, by whether it is costly
SETUP = 8.0  # seconds of every study for compiling


def announced(studies: list[Study], missing: list[int], workers: int) -> str:
    """A sentence on what will be run and for how long."""
    announced = f"Optimizers on problems, one study for each pair: {len(studies)}"
    if len(missing) < len(studies):
        announced += f", of which an earlier run finished {len(studies) - len(missing)}"
    if not missing:
        return f"{announced}. Nothing is left to run."
    seconds = sum(estimated(studies[i]) for i in missing) / min(workers, len(missing))
    return f"{announced}. This takes about {duration(seconds)} (processes: {workers})."


def estimated(study: Study) -> float:
    """The seconds of one study."""
    known = _published().get((study.problem.name, study.entrant.name))
    if known is None:
        return GUESS[study.problem.costly]
    seconds, budget = known
    return SETUP + max(seconds - SETUP, 0) * runs(study.budget) / runs(budget)


@functools.cache
def _published() -> dict[tuple[str, str], tuple[float, Budget]]:
    """The seconds and the budgets of the published studies, by problem and optimizer."""
    try:
        results = read(PUBLISHED)
    except CompareError:
        return {}
    budgets = {name: Budget(**x) for name, x in results["budgets"].items()}
    return {
        (x["problem"], x["optimizer"]): (x["seconds"], budgets[x["problem"]])
        for x in results["studies"]
        if "seconds" in x
    }


def runs(budget: Budget) -> int:
    """The training runs of a study whose best rate is at no edge."""
    return budget.settings * len(budget.choosing) + len(budget.fresh)


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes"

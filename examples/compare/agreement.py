"""Whether two runs with other seeds agree on what they call significant."""

from typing import Any, NamedTuple

from rich.console import Console

from .errors import CompareError
from .records import finished
from .statistics import better


class Agreement(NamedTuple):
    """What two runs say about the pairs of optimizers of one problem.

    `both` counts pairs that both call significant, with the same one better, `one` pairs that only one
    of the runs calls significant, and `turned` lists pairs that the runs order in opposite ways.
    """

    problem: str
    both: int
    one: int
    turned: list[tuple[str, str]]


def agreement(first: Any, second: Any) -> list[Agreement]:
    """One entry for each problem that both results have."""
    found = []
    for problem in first["problems"]:
        if problem not in second["problems"]:
            continue
        a, b = (
            better({name: x["scores"] for name, x in finished(r, problem).items()})
            for r in (first, second)
        )
        turned = sorted(pair for pair in a if pair[::-1] in b)
        found.append(Agreement(problem, len(a & b), len(a ^ b) - 2 * len(turned), turned))
    return found


def agreed(first: Any, second: Any, console: Console) -> list[dict[str, Any]]:
    """Print how many orderings agree on each problem, and return what JSON can hold of it.

    Raises:
        CompareError: if the two runs have a seed in common, or another budget.
    """
    for problem in set(first["budgets"]) & set(second["budgets"]):
        a, b = first["budgets"][problem], second["budgets"][problem]
        if {*a["choosing"], *a["fresh"]} & {*b["choosing"], *b["fresh"]}:
            raise CompareError(
                f"both runs use some of the same seeds on {problem}, so they always agree. Make other "
                "results with --seed 100."
            )
        if any(a[x] != b[x] for x in ("rates", "decades", "seconds", "extensions")) or any(
            len(a[x]) != len(b[x]) for x in ("choosing", "fresh")
        ):
            raise CompareError(f"the two runs have different budgets on {problem}.")
    found = agreement(first, second)
    for x in found:
        console.print(f"{x.problem}: {sentence(x._asdict())}", highlight=False)
    return [x._asdict() for x in found]


def sentence(x: dict[str, Any]) -> str:
    """What two runs say about one problem."""
    turned = [f"{a} and {b}" for a, b in x["turned"]]
    end = f"turned round: {', '.join(turned)}" if turned else "none turned round"
    return f"{x['both']} orderings are significant in both runs, {x['one']} in one of them, {end}."

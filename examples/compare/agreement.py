"""What two runs with other seeds both say: only that is called significant.

The tests of one run know the noise of its fresh seeds. They do not know that with other seeds of
choosing, another setting would have been chosen. A second run, whose seeds are all others, chooses anew.
"""

from typing import Any, NamedTuple

from rich.console import Console

from .errors import CompareError
from .records import finished
from .statistics import better

Pair = tuple[str, str]
KEPT = ("optimizer", "problem", "rate", "second", "scores")


class Agreement(NamedTuple):
    """What two runs say about the pairs of optimizers of one problem, the better one of a pair first.

    Attributes:
        problem: its name.
        both: the pairs that both runs call significant, in the same order.
        one: the pairs that only one of the runs calls significant.
        turned: the pairs of the first run that the second one orders in the opposite way.
        chosen_anew: how many of these pairs have an optimizer for which the runs chose other settings.
    """

    problem: str
    both: set[Pair]
    one: set[Pair]
    turned: set[Pair]
    chosen_anew: int


def agreement(results: Any, problem: str) -> Agreement | None:
    """What the second run says about a problem, or None if it has no such problem."""
    second = results.get("second_run")
    if second is None or problem not in second["budgets"]:
        return None
    first, other = finished(results, problem), finished(second, problem)
    a, b = (better({name: x["scores"] for name, x in run.items()}) for run in (first, other))
    turned = {pair for pair in a if pair[::-1] in b}
    opposite = {pair[::-1] for pair in turned}
    anew = {
        name
        for name in set(first) & set(other)
        if any(first[name][x] != other[name][x] for x in ("rate", "second"))
    }
    return Agreement(
        problem, a & b, (a ^ b) - turned - opposite, turned, sum(bool({*x} & anew) for x in turned)
    )


def significant(results: Any, problem: str) -> set[Pair]:
    """The pairs that are called significant: by both runs where there are two."""
    if found := agreement(results, problem):
        return found.both
    return better({name: x["scores"] for name, x in finished(results, problem).items()})


def with_second_run(results: Any, second: Any, console: Console) -> Any:
    """The results together with what is needed of a second run; prints how far the two agree.

    Raises:
        CompareError: if the two runs have a seed in common, or different budgets.
    """
    for problem in set(results["budgets"]) & set(second["budgets"]):
        a, b = results["budgets"][problem], second["budgets"][problem]
        if {*a["choosing"], *a["fresh"]} & {*b["choosing"], *b["fresh"]}:
            raise CompareError(
                f"both runs use some of the same seeds on {problem}, so they always agree. Make other "
                "results with --seed 100."
            )
        if any(a[x] != b[x] for x in ("rates", "decades", "seconds", "extensions")) or any(
            len(a[x]) != len(b[x]) for x in ("choosing", "fresh")
        ):
            raise CompareError(f"the two runs have different budgets on {problem}.")
    records = [{k: x[k] for k in KEPT} for x in second["studies"] if "error" not in x]
    kept = {"command": second["command"], "budgets": second["budgets"], "studies": records}
    results = results | {"second_run": kept}
    for problem in results["problems"]:
        if found := agreement(results, problem):
            console.print(f"{problem}: {sentence(found)}", highlight=False)
    return results


def sentence(x: Agreement) -> str:
    """What two runs say about one problem."""
    said = (
        f"{len(x.both):,} orderings are significant in both runs, and {len(x.one):,} in one of them"
    )
    if not x.turned:
        return f"{said}; none turned round."
    return (
        f"{said}; {len(x.turned)} turned round, and for {x.chosen_anew} of these pairs the runs chose "
        "other settings."
    )

"""What papers say about pairs of optimizers, and on which problems the results say the opposite."""

from collections.abc import Iterator
from typing import Any

from .agreement import significant
from .markdown import table
from .records import finished

# An optimizer, one that its paper says it is better than, and the paper.
CLAIMS = (
    ("adabelief", "adam", "arXiv:2010.07468"),
    ("adamuon", "muon", "arXiv:2507.11005"),
    ("adan", "adamw", "arXiv:2208.06677"),
    ("ademamix", "adamw", "arXiv:2409.03137"),
    ("adopt", "adam", "arXiv:2411.02853"),
    ("kl_soap", "soap", "arXiv:2509.03378"),
    ("laprop", "adam", "arXiv:2002.04839"),
    ("lion", "adamw", "arXiv:2302.06675"),
    ("mars", "adamw", "arXiv:2411.10438"),
    ("muon", "adamw", "arXiv:2502.16982"),
    ("normuon", "muon", "arXiv:2510.05491"),
    ("sam", "sgd", "arXiv:2010.01412"),
    ("schedule_free_adamw", "adamw", "arXiv:2405.15682"),
    ("schedule_free_sgd", "sgd", "arXiv:2405.15682"),
    ("scion", "adam", "arXiv:2502.07529"),
    ("soap", "adamw", "arXiv:2409.11321"),
    ("soap", "shampoo", "arXiv:2409.11321"),
    ("sophia", "adamw", "arXiv:2305.14342"),
    ("splus", "adam", "arXiv:2506.07254"),
)


def disagreements(results: Any) -> Iterator[str]:
    """A table of the claims: where the results agree, and where they say the opposite."""
    ran = {problem: set(finished(results, problem)) for problem in results["problems"]}
    pairs = {problem: significant(results, problem) for problem in ran}
    lines = []
    for name, other, source in CLAIMS:
        agree, opposite, unclear = [], [], []
        for problem in ran:
            if not {name, other} <= ran[problem]:
                continue
            if (name, other) in pairs[problem]:
                agree.append(problem)
            elif (other, name) in pairs[problem]:
                opposite.append(problem)
            else:
                unclear.append(problem)
        if agree or opposite or unclear:
            cells = (", ".join(where) for where in (agree, opposite, unclear))
            link = f"[{source}](https://arxiv.org/abs/{source.removeprefix('arXiv:')})"
            lines.append([f"`{name}`, `{other}`", link, *cells])
    if not lines:
        return
    yield "## Where the results disagree with papers"
    yield (
        "Each paper reports that the first optimizer is better than the second one (or, of "
        "Schedule-Free, at least as good as a tuned schedule), mostly in training "
        "networks that are much larger and for much longer than here. The next columns name the "
        "problems of this page on which the score at the end is significantly better, as in the paper, "
        "or significantly worse, or neither. What was checked: tests hold the updates of these "
        "optimizers against the recursions of their papers or against Optax, and the best rates are not "
        "at an edge of those that were tried, unless a row says so. What was not tried are the lengths "
        "of runs, batch sizes, schedules and weight decays of the papers."
    )
    yield table(("pair", "source", "better", "worse", "neither"), lines)

"""The pages in the documentation, made from the results alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .claims import disagreements
from .costs_page import costs
from .markdown import image, table
from .method import how
from .pictures import draw_all, shown
from .ranking import (
    Row,
    best_group,
    decay_of,
    for_all,
    ranked,
    second_text,
    steps_of_all,
    steps_text,
    with_error,
)
from .remarks import remarks
from .statistics import profile

DOCS = Path("docs")
PAGE, TABLES, PICTURES = DOCS / "comparison.md", DOCS / "comparison_tables.md", DOCS / "comparison"
IN_PAGE = 8  # rows of a table on the page; the other page has all of them


def write_pages(results: Any) -> None:
    """Write both pages, and draw their figures."""
    draw_all(results, PICTURES)
    PAGE.write_text(page(results))
    TABLES.write_text(all_tables(results))


def page(results: Any) -> str:
    """The text of the page."""
    parts = [LIMITS, *_overview(results)]
    for name in results["problems"]:
        parts += _problem(results, name)
    parts += [*disagreements(results), *costs(results), *how(results)]
    return "\n\n".join(parts) + "\n"


LIMITS = """\
% This file is made by `python -m examples.compare --page` from examples/compare/results.json.

# Comparison of optimizers

**What this page cannot tell.** The problems are small, they run on one core of a CPU, a run is a few
hundred steps long, and only the learning rate and one second number were tuned; schedules, batch sizes
and weight decay were not. An optimizer that wins here need not win on a large network, and one that was
made for large networks, for sharded memory or for month-long runs cannot show it here. What the page
can tell: how every optimizer of gradtx does on the same problems, with the same budget, and which
differences are more than noise.

`make compare` makes the results; a stopped run goes on. An optimizer of your own is one line:
`make compare ARGS='--optimizer "soap(3e-3)" --problem digits'`. A problem of your own is a file in
`examples/compare/problems`, and a line in the table there."""


def all_tables(results: Any) -> str:
    """The text of the page with every row."""
    parts = [
        "---\norphan: true\n---",
        "% This file is made by `python -m examples.compare --page`.",
        "# All rows of the comparison",
        "What the columns mean, and how the results were made, is on [the page](comparison.md).",
    ]
    for name, about in results["problems"].items():
        parts += [f"## {about['title']}", _table(ranked(results, name), about)]
        failed = [x for x in results["studies"] if x["problem"] == name and "error" in x]
        parts += [f"- `{x['optimizer']}` did not finish: {x['error']}" for x in failed]
    return "\n\n".join(parts) + "\n"


def _overview(results: Any) -> Iterator[str]:
    shared = for_all(results)
    some = [name for name in results["problems"] if name not in shared]
    if not shared:
        return
    yield "## Overview"
    yield (
        f"How many of the targets of the {len(shared)} problems on which all optimizers ran (two each) "
        "an optimizer reaches within a factor of the steps of the fastest one, as a performance "
        "profile. Gray lines are the optimizers that are not named."
    )
    yield image("profile", "Performance profiles of all optimizers.")
    steps = steps_of_all(results, shared)
    shares = profile(steps, (1.0, 1.5, 2.0, 4.0))
    groups = {p: best_group(results, p) for p in results["problems"]}
    order = sorted(shares, key=lambda name: (-sum(shares[name][1:]), name))
    lines = []
    for name in order:
        near = [p for p in results["problems"] if name in groups[p]]
        cells = [f"{x:.0%}" for x in shares[name]]
        lines.append([f"`{name}`", *cells, ", ".join(near)])
    yield (
        "In the table, *fastest* is the share of targets that an optimizer reaches in the fewest steps "
        "of all, and the next columns are the shares within 1.5, 2 and 4 times as many. *Not worse on* "
        "names the problems on which its score at the end is the lowest, or is not told apart from the "
        "lowest" + (f"; only some optimizers ran on {', '.join(some)}." if some else ".")
    )
    yield table(("optimizer", "fastest", "1.5 x", "2 x", "4 x", "not worse on"), lines)


def _problem(results: Any, name: str) -> Iterator[str]:
    about, budget, rows = results["problems"][name], results["budgets"][name], ranked(results, name)
    if not rows:
        return
    tried = budget["rates"] * budget["seconds"]
    yield f"## {about['title']}"
    yield f"{about['why']} Source: {about['source']}"
    yield (
        f"*Score:* {about['score_name']}; lower is better. *A run:* {about['steps']} steps; the "
        f"learning rate falls linearly to zero, except where an optimizer is made for a constant one. "
        f"*Budget:* "
        f"{tried} settings for each optimizer ({budget['rates']} learning rates"
        + (f" times {budget['seconds']} values of a second number" if budget["seconds"] > 1 else "")
        + f"), and further rates while the best one is at an edge; each setting on "
        f"{len(budget['choosing'])} seeds. *Reported:* the chosen setting on {len(budget['fresh'])} "
        f"fresh seeds, as the mean and its standard error. {_significance(results, name)}"
    )
    yield image(f"curves_{name}", f"Learning curves on {name}.")
    yield _table(shown(rows, IN_PAGE), about)
    if name == next(iter(results["problems"])):
        yield (
            "The score of every setting that was tried (mean of the seeds that chose; the star is the "
            "chosen setting; white was not tried):"
        )
        yield image("maps", "Scores over the learning rate and a second number.")
    yield from remarks(results, name)


def _significance(results: Any, problem: str) -> str:
    best, *others = (f"`{name}`" for name in best_group(results, problem))
    if not others:
        return f"{best} has the lowest score, and all others are told apart from it."
    few = ", ".join(others)
    if len(others) > 8:
        few = f"{', '.join(others[:5])} and {len(others) - 5} others"
    return f"{best} has the lowest score; not told apart from it: {few}."


def _table(rows: list[Row], about: Any) -> str:
    heads = (
        ["optimizer", "score", "better than", "worse than"]
        + [f"steps to {target:g}" for target in about["targets"]]
        + ["near best", "rate", "second", "decay", "diverged"]
    )
    return table(heads, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    record = row.record
    return [
        f"`{row.name}`",
        with_error(row.mean, row.error),
        str(row.better_than),
        str(row.worse_than),
        *map(steps_text, row.steps),
        f"{row.near_best:.0%}",
        f"{record['rate']:.2g}" + (" (edge)" if record["at_edge"] else ""),
        second_text(record),
        decay_of(record),
        str(record["diverged"]) if record["diverged"] else "",
    ]

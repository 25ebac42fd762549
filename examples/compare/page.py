"""The pages in the documentation, made from the results alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .agreement import sentence
from .pictures import draw_all, shown
from .ranking import Row, best_group, ranked, second_text, steps_of_all, steps_text, with_error
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
    parts += [*_costs(results), *_how(results)]
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

`make compare` makes the results; a stopped run goes on. A problem or an optimizer of your own is one
line: `make compare ARGS='--optimizer "soap(3e-3)" --problem digits'`."""


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
    cheap = [name for name, about in results["problems"].items() if not about["costly"]]
    costly = [name for name in results["problems"] if name not in cheap]
    if not cheap:
        return
    yield "## Overview"
    yield (
        f"How many of the targets of the {len(cheap)} cheap problems (two each) an optimizer reaches "
        "within a factor of the steps of the fastest one, as a performance profile. Gray lines are the "
        "optimizers that are not named."
    )
    yield _image("profile", "Performance profiles of all optimizers.")
    steps = steps_of_all(results, cheap)
    shares = profile(steps, (1.0, 1.5, 2.0, 4.0))
    groups = {p: best_group(ranked(results, p)) for p in results["problems"]}
    order = sorted(shares, key=lambda name: (-sum(shares[name][1:]), name))
    lines = []
    for name in order:
        best_on = [p for p in results["problems"] if name in groups[p]]
        cells = [f"{x:.0%}" for x in shares[name]]
        lines.append([f"`{name}`", *cells, ", ".join(best_on)])
    yield (
        "In the table, *fastest* is the share of targets that an optimizer reaches in the fewest steps "
        "of all, and the next columns are the shares within 1.5, 2 and 4 times as many. *Best on* names "
        "the problems on which its score at the end is not told apart from the lowest one"
        + (f"; only some optimizers ran on {' and '.join(costly)}." if costly else ".")
    )
    yield _rows(("optimizer", "fastest", "1.5 x", "2 x", "4 x", "best on"), lines)


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
        f"fresh seeds, as the mean and its standard error. {_significance(rows)}"
    )
    yield _image(f"curves_{name}", f"Learning curves on {name}.")
    yield _table(shown(rows, IN_PAGE), about)
    if name == next(iter(results["problems"])):
        yield (
            "The score of every setting that was tried (mean of the seeds that chose; the star is the "
            "chosen setting; white was not tried):"
        )
        yield _image("maps", "Scores over the learning rate and a second number.")
    yield from remarks(results, name)


def _significance(rows: list[Row]) -> str:
    best, *others = (f"`{name}`" for name in best_group(rows))
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
        + ["near best", "rate", "second", "diverged"]
    )
    return _rows(heads, [_cells(row) for row in rows])


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
        str(record["diverged"]) if record["diverged"] else "",
    ]


def _costs(results: Any) -> Iterator[str]:
    costs = {k: x for k, x in results["costs"].items() if isinstance(x, dict) and "error" not in x}
    if not costs:
        return
    on = results["costs"]["on"]
    yield "## What a step costs"
    yield (
        f"The time of the optimizer alone, without the gradient, on the parameters of *{on}*, beside "
        "AdamW in the same process: the median of five rounds, with the lowest and the highest. With a "
        "network of this size the gradient takes most of a step, and on a GPU or with other shapes the "
        "ratios are others. An optimizer that takes further gradients in a step, such as `sam`, pays "
        "for them on top."
    )
    yield _image("costs", "Time per step of the optimizers alone.")
    state = {x["optimizer"]: x["state_bytes"] for x in results["studies"] if "state_bytes" in x}
    adamw = costs.get("adamw", {}).get("adamw_microseconds")
    if adamw:
        yield f"AdamW takes {adamw:.0f} microseconds per step there."
    known = finished_state(results)
    lines = [
        [
            f"`{name}`",
            f"{x['times_adamw']:.2f} ({x['lowest']:.2f} to {x['highest']:.2f})",
            f"{known[name]:,}" if name in known else "",
        ]
        for name, x in sorted(costs.items(), key=lambda item: item[1]["times_adamw"])
        if name in state
    ]
    yield _rows(("optimizer", "times AdamW", "state bytes on digits"), lines)


def finished_state(results: Any) -> dict[str, int]:
    """The bytes of the states on the first problem."""
    first = next(iter(results["problems"]))
    return {
        x["optimizer"]: x["state_bytes"]
        for x in results["studies"]
        if x["problem"] == first and "state_bytes" in x
    }


def _how(results: Any) -> Iterator[str]:
    versions = ", ".join(f"{name} {x}" for name, x in results["versions"].items())
    seconds = sum(x.get("seconds", 0) for x in results["studies"])
    extended = [x["extended"] for x in results["studies"] if "extended" in x]
    edges = [x for x in results["studies"] if x.get("at_edge")]
    yield "## How it was made"
    yield f"""\
- **Choosing.** Settings are compared by a score on rows (or, where the objective is known exactly, on
  seeds) that are not reported. The mean over the seeds decides. A run that diverges, or ends above its
  start, counts with the score at its start, in choosing as in reporting.
- **Edges.** While the best learning rate is the lowest or the highest that was tried, the next one
  beyond it is tried as well; {np.mean(np.array(extended) > 0):.0%} of the studies were extended, by
  {np.mean(extended):.1f} rates on average. {_edges(edges)}
- **Second number.** The memory of the first moment for most optimizers, such as `b1`, `beta` or
  `momentum`; the table says which. Its values are not extended: {_ends(results):.0%} of the chosen
  ones are the lowest or the highest that was tried. An optimizer without such a number tries as many
  settings, all of them learning rates. Everything else, weight decay included, has gradtx's default.
- **One program.** An optimizer is a value, so its numbers are arguments of the compiled program: every
  setting and every seed of a study runs the same program.
- **Which differences are called significant.** Welch's test for each pair of optimizers of a table, with
  Holm's correction for all pairs of the table together, at a level of 0.05. *Better than* and
  *worse than* count these differences. What is said to be told apart from the lowest score, or not, is
  corrected for the comparisons with that one only.
- **Steps to a target.** The first of 25 equally spaced evaluations at or below it; the median of the
  seeds. A dash says that half of the seeds, or more, did not reach it.
- **Near best.** The share of the settings that make at least 90% of the progress of the optimizer's own
  best setting: how little it matters what one chooses.
- **Made with** {versions}, on {results["processor"]} ({results["cores"]} cores), in
  {seconds / 3600:.1f} hours of one core, by `{results["command"]}`. Every number is in
  `examples/compare/results.json`, with the seeds and the exact text of every optimizer."""
    if agreement := results.get("agreement"):
        yield (
            "**Does it hold with other seeds?** It was run again with other seeds, for choosing and for "
            "reporting, on these problems:"
        )
        yield "\n".join(f"- *{x['problem']}*: {sentence(x)}" for x in agreement)
    yield "All rows are on [a page of their own](comparison_tables.md)."


def _ends(results: Any) -> float:
    """The share of the chosen second numbers that are at an end of at least three that were tried."""
    at_end = []
    for x in results["studies"]:
        values = sorted({str(row[1]) for row in x.get("tried", ())})
        if len(values) > 2:
            at_end.append(str(x["second"]) in (values[0], values[-1]))
    return float(np.mean(at_end)) if at_end else 0.0


def _edges(edges: list[Any]) -> str:
    if not edges:
        return "No best rate is at an edge now."
    names = sorted({f"`{x['optimizer']}` on {x['problem']}" for x in edges})
    few = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"After the allowed extensions the best rate is still at an edge for {few}."


def _image(name: str, alt: str) -> str:
    return f"![{alt}](comparison/{name}.png)"


def _rows(heads: Any, rows: list[list[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

"""The last part of the page: how the results were made, which is said from the results alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from .agreement import agreement, sentence


def how(results: Any) -> Iterator[str]:
    """The paragraphs on how the results were made."""
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
- **Second number.** It is the memory of the first moment for most optimizers, such as `b1`, `beta` or
  `momentum`; the table says which. Its values are not extended: {_ends(results):.0%} of the chosen
  ones are the lowest or the highest that was tried. An optimizer without such a number tries as many
  settings, all of them learning rates. Everything else has gradtx's default. That includes weight
  decay, which some optimizers have and others do not: the column *decay* says which.
- **Optimizers of matrices.** Each of them gives vectors to another optimizer, mostly to AdamW with
  `b2=0.95`. So they do not run on problems without matrices, and `adamw(b2=0.95)` is a row of its own.
- **One program.** An optimizer is a value, so its numbers are arguments of the compiled program: every
  setting and every seed of a study runs the same program.
- **Which differences are called significant.** Welch's test for each pair of optimizers of a table, with
  Holm's correction for all pairs of the table together, at a level of 0.05; where there is a second run
  (see below), in both runs. *Better than* and *worse than* count these differences, and the sentence
  above a table is about the same ones. On *mnist* and *text* all seeds share their test rows. Other test
  rows would move all scores there, so that a difference on them may be larger or smaller.
- **Steps to a target.** This is the first of 25 equally spaced evaluations at or below it, as the median
  of the seeds. A dash says that half of the seeds, or more, did not reach it. The settings were chosen
  for the score at the end and not for these steps.
- **Near best.** This is the share of the settings that make at least 90% of the progress of the
  optimizer's own best setting. It says how little it matters what one chooses.
- **Made with** {versions}, on {results["processor"]} ({results["cores"]} cores), in
  {seconds / 3600:.1f} hours of one core, by `{results["command"]}`. The results were put together on
  {results["made"].replace(" ", " at commit ")}. Every number is in `examples/compare/results.json`, with
  the seeds and the exact text of every optimizer."""
    if found := [x for problem in results["problems"] if (x := agreement(results, problem))]:
        yield "## Does it hold with other seeds?"
        yield (
            "The comparison was run again with other seeds, for choosing and for reporting, by "
            f"`{results['second_run']['command']}`. On these problems, an ordering is called "
            "significant on this page only if both runs say so. The scores of the tables are those of "
            "the first run. Where the runs chose other settings of an optimizer, their tests are about "
            "other settings, so an ordering may turn round although each run calls it significant:"
        )
        yield "\n".join(f"- *{x.problem}*: {sentence(x)}" for x in found)
    yield "All rows are on [a page of their own](comparison_tables.md)."


def _ends(results: Any) -> float:
    """The share of the chosen second numbers that are at an end of at least three that were tried."""
    at_end = []
    for x in results["studies"]:
        values = sorted({_number(row[1]) for row in x.get("tried", ())})
        if len(values) > 2:
            at_end.append(_number(x["second"]) in (values[0], values[-1]))
    return float(np.mean(at_end)) if at_end else 0.0


def _number(second: Any) -> float:
    """A second number, or the first one of a pair; 0 stands for none."""
    first = second[0] if isinstance(second, list) else second
    return first or 0.0


def _edges(edges: list[Any]) -> str:
    if not edges:
        return "No best rate is at an edge now."
    names = sorted({f"`{x['optimizer']}` on {x['problem']}" for x in edges})
    few = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f"After the allowed extensions the best rate is still at an edge for {few}."

"""The tables that a run prints at its end."""

from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from .ranking import ranked, second_text, steps_text, with_error

SHOWN = 15


def print_tables(results: Any, console: Console) -> None:
    """Print a table for each problem, and a sentence for each study that did not finish."""
    for problem, about in results["problems"].items():
        rows = ranked(results, problem)
        if rows:
            console.print(_table(problem, about, rows))
        if len(rows) > SHOWN:
            console.print(f"{len(rows) - SHOWN} more are in the file of results.\n")
    for x in results["studies"]:
        if "error" in x:
            text = f"{x['optimizer']} on {x['problem']}: {x['error']}"
            console.print(text, style="red", highlight=False, markup=False)


def _table(problem: str, about: Any, rows: list[Any]) -> Table:
    table = Table(
        title=f"{problem}: {about['score_name']} (lower is better)",
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
    )
    table.add_column("optimizer", style="bold")
    targets = [f"steps to\n{target:g}" for target in about["targets"]]
    for head in ("score", "better\nthan", "worse\nthan", *targets, "near\nbest", "rate", "second"):
        table.add_column(head, justify="right")
    for row in rows[:SHOWN]:
        edge = " at edge" if row.record["at_edge"] else ""
        table.add_row(
            row.name,
            with_error(row.mean, row.error),
            str(row.better_than),
            str(row.worse_than),
            *map(steps_text, row.steps),
            f"{row.near_best:.0%}",
            f"{row.record['rate']:.2g}{edge}",
            second_text(row.record),
        )
    return table

"""What the race shows at the end: a table and a figure."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # The figure goes to a file and needs no window.

import matplotlib.pyplot as plt
import numpy as np
import rich.box
from matplotlib.ticker import LogLocator, NullFormatter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .data import Task
from .training import ACCURACY_GOAL, Run

# Colors that color-blind readers can tell apart: those of Okabe and Ito (2008), and olive and wine of
# Paul Tol.
COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999933"),
    *("#56B4E9", "#882255", "#D55E00", "#000000", "#888888"),
)
STYLE = {
    "axes.edgecolor": "#666666",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


def ranked(runs: list[Run]) -> list[Run]:
    """Runs ordered by their steps to the goal, then by their loss at the end; diverged runs last."""

    def key(run: Run) -> tuple[float, float]:
        end = np.inf if run.diverged.all() else run.loss[run.best, -1]
        return run.steps_to_goal or np.inf, end

    return sorted(runs, key=key)


def print_table(console: Console, runs: list[Run], task: Task) -> None:
    """Print one row per optimizer, at its best rate, with the winner first."""
    rows, inputs = task.train_x.shape
    about = f"{rows} rows of {inputs} inputs, {task.classes} classes, {runs[0].steps[-1]} steps"
    table = Table(
        title=escape(f"{task.name}: {about}"), title_justify="left", box=rich.box.SIMPLE_HEAD
    )
    table.add_column("optimizer", style="bold", overflow="fold", min_width=9)
    heads = "best\nrate", "diverged", "test\naccuracy", f"steps to\n{ACCURACY_GOAL:.0%}"
    for head in (*heads, "time per\nstep", "state\nbytes"):
        table.add_column(head, justify="right")
    for run in ranked(runs):
        lost = f"{run.diverged.sum()} of {len(run.rates)}"
        cost = f"{run.seconds_per_step * 1e6:,.0f} µs", f"{run.state_bytes:,}"
        if run.diverged.all():
            table.add_row(escape(run.name), "none", lost, "", "", *cost, style="red")
        else:
            rate, accuracy = run.rates[run.best], run.accuracy[run.best, -1]
            there = "not yet" if run.steps_to_goal is None else str(run.steps_to_goal)
            table.add_row(escape(run.name), f"{rate:.2g}", lost, f"{accuracy:.1%}", there, *cost)
    console.print(table)
    for run in runs:
        if run.edge and not run.diverged.all():
            beyond = "smaller" if run.edge == "lowest" else "larger"
            edge = f"the best rate is the {run.edge} of its grid, so a {beyond} one may be better"
            console.print(f"{run.name}: {edge}.", highlight=False, markup=False)


def draw(runs: list[Run], task: Task, out: Path) -> None:
    """Draw the loss during training at the best rate, and the loss at the end against the rate."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10, 4.2), sharey=True, layout="constrained"
        )
        start = runs[0].loss[0, 0]
        steps = runs[0].steps[1:]
        left.set(xscale="log", yscale="log", xlim=(steps[0], steps[-1]), xlabel="step")
        left.set(ylabel="validation loss", title=f"{task.name}: each at its best learning rate")
        right.set(xscale="log", xlabel="learning rate", title="after the last step, at every rate")
        lines = {}
        for i, run in enumerate(runs):
            line = _line(i)
            (lines[run.name],) = left.plot(steps, run.loss[run.best, 1:], label=run.name, **line)
            _sensitivity(right, run, start, line)
        right.axhline(start, color="#bbbbbb", lw=0.8, zorder=0)
        right.annotate(
            "×  diverged: no better than guessing",
            (0.03, start),
            (0, 4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color="#666666",
            fontsize=9,
        )
        for axis in (left.xaxis, left.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        figure.legend(handles=[lines[run.name] for run in ranked(runs)], loc="outside right upper")
        figure.savefig(out, dpi=140)
        plt.close(figure)


def _line(i: int) -> dict[str, Any]:
    """The style of the i-th curve.

    Every second curve is dashed and lies on top, so that a curve that coincides with it stays visible.
    """
    return {
        "color": COLORS[i % len(COLORS)],
        "linestyle": (0, (3, 1.5)) if i % 2 else "-",
        "linewidth": 1.8,
        "zorder": 2 + i % 2,
    }


def _sensitivity(axes: Any, run: Run, ceiling: float, line: dict[str, Any]) -> None:
    """Draw the loss at the end against the rate; a rate that diverged is a cross at the ceiling."""
    lost = run.diverged
    end = np.where(lost, ceiling, run.loss[:, -1])
    beside = np.convolve(~lost, [1, 1, 1], mode="same") > 0
    axes.plot(run.rates, np.where(beside, end, np.nan), **line)
    axes.plot(run.rates[lost], end[lost], "x", color=line["color"], ms=5, mew=1.5, zorder=4)
    axes.plot(run.rates[run.best], end[run.best], "o", color=line["color"], ms=6, zorder=5)

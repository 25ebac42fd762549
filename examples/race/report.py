"""What the race shows at the end: a table and a figure."""

from collections.abc import Callable
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

from ..noise import standard_error, told_apart
from .data import Task
from .rules import ACCURACY_GOAL, CHOOSING_SEEDS, Run

# Colors that color-blind readers can tell apart: those of Okabe and Ito (2008), and olive and wine of
# Paul Tol.
COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999933"),
    *("#56B4E9", "#882255", "#D55E00", "#000000", "#888888"),
)
STYLE: dict[Any, Any] = {
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
    """Runs ordered by their mean steps to the goal, then by the loss at the end; diverged runs last."""

    def key(run: Run) -> tuple[bool, float, float]:
        end = float(np.nan_to_num(run.loss[:, -1].mean(), nan=np.inf))
        return bool(run.diverged.all()), float(run.steps_to_goal.mean()), end

    return sorted(runs, key=key)


def print_table(console: Console, runs: list[Run], task: Task) -> None:
    """Print one row per optimizer, at its best rate, the quickest first, and what the numbers mean."""
    rows, inputs = task.train_x.shape
    about = f"{rows} rows of {inputs} inputs, {task.classes} classes, {runs[0].steps[-1]} steps"
    table = Table(
        title=escape(f"{task.name}: {about}"),
        title_justify="left",
        box=rich.box.SIMPLE_HEAD,
        collapse_padding=True,
    )
    table.add_column("optimizer", style="bold", overflow="fold", min_width=9)
    heads = ("best\nrate", "weight\ndecay", "diverged", f"steps to\n{ACCURACY_GOAL:.0%}")
    for head in (*heads, "test\naccuracy", "optimizer's\nown time", "state\nbytes"):
        table.add_column(head, justify="right")
    for run in ranked(runs):
        lost = f"{run.diverged.sum()} of {run.diverged.size}"
        cost = f"{run.seconds_per_step * 1e6:,.0f} µs", f"{run.state_bytes:,}"
        name = escape(run.name)
        if run.diverged.all():
            table.add_row(name, "none", run.decay, lost, "", "", *cost, style="red")
        else:
            rate = f"{run.rates[run.best]:.2g}" + "*" * bool(run.edge)
            percent = 100 * run.accuracy[:, -1]
            accuracy = f"{percent.mean():.1f} ± {standard_error(percent):.1f}%"
            table.add_row(name, rate, run.decay, lost, _steps(run.steps_to_goal), accuracy, *cost)
    console.print(table)
    for line in notes(runs, task):
        console.print(line, highlight=False, markup=False)


def _steps(counts: np.ndarray) -> str:
    missing = int(np.isinf(counts).sum())
    if missing:
        return f"{missing} of {len(counts)} not yet"
    return f"{counts.mean():.1f} ± {standard_error(counts):.1f}"


def notes(runs: list[Run], task: Task) -> list[str]:
    """What was done, which differences are more than noise, and whose best rate is at an edge."""
    finished = [run for run in ranked(runs) if not run.diverged.all()]
    if not finished:
        return []
    seeds, held_out = len(finished[0].loss), len(task.test_y)
    mean = np.mean([run.accuracy[:, -1].mean() for run in finished])
    sampling = 100 * np.sqrt(mean * (1 - mean) / held_out)
    lines = [
        f"Rates are chosen by the validation loss of {len(CHOOSING_SEEDS)} seeds. Behind ± is the "
        f"standard error of the mean over {seeds} fresh seeds, on {held_out} test rows. Other test rows "
        f"would change an accuracy by about {sampling:.1f} points more (one standard error). The "
        "optimizer's own time is per step and without the gradient."
    ]
    if len(finished) > 1:
        lines += [_apart(finished, "steps", lambda run: run.steps_to_goal, finished[0])]
        most = max(finished, key=lambda run: run.accuracy[:, -1].mean())
        lines += [_apart(finished, "test accuracy", lambda run: run.accuracy[:, -1], most)]
    for run in finished:
        if run.edge:
            beyond = "smaller" if run.edge == "lowest" else "larger"
            edge = f"the best rate is the {run.edge} of its grid, so a {beyond} one may be better"
            lines.append(f"* {run.name}: {edge}.")
        lost = int((~(run.loss[:, -1] < run.loss[:, 0])).sum())
        if lost:
            lines.append(f"{run.name}: {lost} of {seeds} fresh seeds diverged at the best rate.")
    return lines


def _apart(runs: list[Run], what: str, sample: Callable[[Run], np.ndarray], best: Run) -> str:
    """Which optimizers differ by more than noise from the best one."""
    samples = {run.name: sample(run) for run in runs}
    never = [name for name, x in samples.items() if not np.isfinite(x).all()]
    if best.name in never:
        return f"In {what}, no comparison: {ACCURACY_GOAL:.0%} was not always reached."
    comparable = {name: x for name, x in samples.items() if name not in never}
    pairs = told_apart(comparable)
    others = [name for name in comparable if name != best.name]
    same = [name for name in others if frozenset((best.name, name)) not in pairs]
    which = f"no difference from {best.name} is shown for {', '.join(same)}"
    if not same:
        which = f"{best.name} differs from all others"
    return f"In {what}, {which} (Welch's test for all pairs, Holm's correction, level 5%)."


def draw(runs: list[Run], task: Task, out: Path) -> None:
    """Draw the test loss during training at the best rate, and the validation loss against the rate."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10, 4.2), sharey=True, layout="constrained"
        )
        start = runs[0].start
        steps = runs[0].steps[1:]
        left.set(xscale="log", yscale="log", xlim=(steps[0], steps[-1]), xlabel="step")
        left.set(ylabel="loss", title=f"{task.name}: test loss, {len(runs[0].loss)} fresh seeds")
        right.set(xscale="log", xlabel="learning rate")
        right.set(title=f"validation loss at the end, {len(CHOOSING_SEEDS)} seeds")
        lines = {}
        for i, run in enumerate(runs):
            line = _line(i)
            _band(left, steps, run.loss[:, 1:], line)
            mean = run.loss[:, 1:].mean(axis=0)
            (lines[run.name],) = left.plot(steps, mean, label=run.name, **line)
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


def _band(axes: Any, x: np.ndarray, samples: np.ndarray, line: dict[str, Any]) -> None:
    """Shade one standard error to either side of the mean over the seeds."""
    mean, error = samples.mean(axis=0), samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    axes.fill_between(x, mean - error, mean + error, color=line["color"], alpha=0.2, lw=0)


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
    """Draw the loss at the end against the rate; a rate with which a seed diverged is a cross."""
    lost = run.diverged.any(axis=1)
    end = np.where(lost, ceiling, run.validation.mean(axis=1))
    beside = np.convolve(~lost, [1, 1, 1], mode="same") > 0
    axes.plot(run.rates, np.where(beside, end, np.nan), **line)
    axes.plot(run.rates[lost], end[lost], "x", color=line["color"], ms=5, mew=1.5, zorder=4)
    axes.plot(run.rates[run.best], end[run.best], "o", color=line["color"], ms=6, zorder=5)

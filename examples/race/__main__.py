"""A race of optimizers on real data: which is fastest, and how much does the learning rate matter?

    make                                              handwritten digits, every optimizer of RACERS
    python -m examples.race --data mine.csv           your own rows, the label in the last column
    python -m examples.race --optimizer "sgd(0.1)" --optimizer "adamw(3e-4, b2=0.95)"

Each optimizer trains the same small network at every learning rate of a grid, from the starts and on the
batches of three seeds; during a run the rate falls linearly to zero. The best rate is the one with the
lowest validation loss. It then trains with other seeds, which the table reports on the test rows. The
rules are in `rules.py`.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .data import Task, load
from .errors import RaceError
from .racers import RATE_FACTORS, chosen
from .report import draw, print_table
from .rules import CHOOSING_SEEDS, FRESH_SEEDS, Run, race
from .training import check_trainable


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options, or `RaceError` for one that is out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.race", description="Race optimizers on handwritten digits."
    )
    add = parser.add_argument
    add("--data", metavar="PATH", help="a .csv (label last) or .npz (x and y) instead of digits")
    add("--steps", type=int, default=200, help="training steps of each run (default 200)")
    add("--seed", type=int, default=0, help="of the split, the weights and the batches (default 0)")
    add("--seeds", type=int, default=FRESH_SEEDS, help="fresh seeds to report (default 10)")
    add("--out", metavar="PATH", default="out/race.png", help="where the figure goes")
    add("--optimizer", metavar="TEXT", action="append", default=[], help="race this (repeatable)")
    add("--config", metavar="FILE", help="a TOML or YAML file with a list `optimizers`")
    options = parser.parse_args(argv)
    numbers = (
        ("--steps", options.steps, 1),
        ("--seed", options.seed, 0),
        ("--seeds", options.seeds, 2),
    )
    for name, value, least in numbers:
        if value < least:
            raise RaceError(f"{name} must be at least {least}, not {value}.")
    if Path(options.out).suffix not in (".png", ".pdf", ".svg"):
        raise RaceError(f"--out must end in .png, .pdf or .svg, not {options.out!r}.")
    return options


def main(argv: list[str] | None = None) -> None:
    """Race, print the table and save the figure; a mistake of the user raises `RaceError`."""
    options, console = arguments(argv), Console()
    racers = chosen(options.optimizer, options.config)
    out = Path(options.out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RaceError(f"cannot write to {out.parent}: {error.strerror}.") from None
    task = load(options.data, options.seed)
    for name, tx in racers.items():
        check_trainable(name, tx, task)
    runs = []
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    trainings = len(RATE_FACTORS) * len(CHOOSING_SEEDS) + options.seeds
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(racers) * trainings)
        for i, (name, tx) in enumerate(racers.items(), start=1):
            label = escape(f"{i} of {len(racers)}, {name}")
            progress.update(bar, description=label, completed=(i - 1) * trainings)
            args = task, options.steps, options.seed, options.seeds
            runs.append(race(name, tx, *args, done=lambda: progress.advance(bar)))
    report(runs, task, out, console)


def report(runs: list[Run], task: Task, out: Path, console: Console) -> None:
    """Print the table and draw the figure; raise `RaceError` if an optimizer diverged at every rate."""
    print_table(console, runs, task)
    finished = [run for run in runs if not run.diverged.all()]
    if finished:
        try:
            draw(finished, task, out)
        except OSError as error:
            raise RaceError(f"cannot write {out}: {error.strerror}.") from None
        console.print(f"figure: {out}", soft_wrap=True, highlight=False, markup=False)
    for run in runs:
        if run.diverged.all():
            raise RaceError(
                f"{run.name} diverged at every learning rate from {run.rates[0]:.2g} to "
                f"{run.rates[-1]:.2g}. Give it a smaller rate as the middle of its grid."
            )


def run(argv: list[str] | None = None) -> None:
    """`main`, but a mistake of the user ends the process with a sentence and exit status 1."""
    try:
        main(argv)
    except RaceError as error:
        sys.exit(f"race: {error}")
    except KeyboardInterrupt:
        sys.exit("race: stopped")


if __name__ == "__main__":
    run()

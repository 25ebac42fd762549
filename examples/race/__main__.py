"""A race of optimizers on real data: which is fastest, and how much does the learning rate matter?

    make                                         handwritten digits, every optimizer of RACERS
    python examples/race.py --data mine.csv      your own rows, the label in the last column
    python examples/race.py --optimizer "adamw(3e-4, b2=0.95)" --optimizer "sgd(0.1)"

Each optimizer trains the same small network from the same start on the same batches, once for every
learning rate of a grid; during a run the rate falls linearly to zero. The best rate is the one with
the lowest validation loss; the test rows serve the reported accuracy only. How a whole grid is one
compiled program stands in race_train.py.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from race_data import RaceError, load, read_config
from race_report import draw, print_table
from race_train import complain, learning_rate, looks, race
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import gradtx

# Whoever races, one line each. The learning rate is the centre of the grid.
RACERS = {
    "sgd": gradtx.sgd(0.3),
    "momentum": gradtx.sgd(0.03, momentum=0.9),
    "nesterov": gradtx.sgd(0.03, momentum=0.9, nesterov=True),
    "adagrad": gradtx.adagrad(0.03),
    "rmsprop": gradtx.rmsprop(0.003),
    "adadelta": gradtx.adadelta(1.0),
    "adam": gradtx.adam(0.003),
    "adamw": gradtx.adamw(0.01, weight_decay=1.0),
    "muon": gradtx.muon(0.02, weight_decay=1.0),
}


def parsed(text: str) -> Any:
    """The optimizer that `text` names."""
    try:
        tx = gradtx.parse(text)
    except ValueError as error:
        raise RaceError(f"cannot read the optimizer {text!r}: {error}") from None
    if not isinstance(tx, gradtx.Transform):
        raise RaceError(f"{text!r} is no optimizer.")
    return tx


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Race optimizers on handwritten digits.")
    add = parser.add_argument
    add("--data", metavar="PATH", help="a .csv (label last) or .npz (x and y) instead of digits")
    add("--steps", type=int, default=400, help="training steps of each run (default 400)")
    add("--seed", type=int, default=0, help="of the split, the weights and the batches (default 0)")
    add("--out", metavar="PATH", default="out/race.png", help="where the figure goes")
    add("--optimizer", metavar="TEXT", action="append", default=[], help="race this (repeatable)")
    add("--config", metavar="FILE", help="a TOML or YAML file with a list `optimizers`")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args, console = arguments(argv), Console()
    texts = args.optimizer + (read_config(args.config) if args.config else [])
    racers = {text: parsed(text) for text in texts} or RACERS
    for tx in racers.values():
        learning_rate(tx)  # complains before anything runs
    for name, value, least in (("--steps", args.steps, 1), ("--seed", args.seed, 0)):
        if value < least:
            raise RaceError(f"{name} must be at least {least}, not {value}.")
    out = Path(args.out)
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise RaceError(f"--out must end in .png, .pdf or .svg, not {args.out!r}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RaceError(f"cannot write to {out.parent}: {error.strerror}.") from None
    task = load(args.data, args.seed)
    for name, tx in racers.items():
        complain(name, tx, task)
    runs = []
    columns = TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=looks(args.steps)[0] * len(racers))
        for name, tx in racers.items():
            progress.update(bar, description=escape(name))
            runs.append(race(name, tx, task, args.steps, args.seed, partial(progress.advance, bar)))
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
                f"{run.rates[-1]:.2g}. Centre its grid on a smaller one."
            )


def run(argv: list[str] | None = None) -> None:
    """`main`, with what the user can mend as a sentence and exit status 1."""
    try:
        main(argv)
    except RaceError as error:
        sys.exit(f"race: {error}")
    except KeyboardInterrupt:
        sys.exit("race: stopped")


if __name__ == "__main__":
    run()

"""The command line of the comparison."""

import argparse
import os
from pathlib import Path

from .entrants import ENTRANTS, Entrant
from .errors import CompareError
from .named import from_text
from .problems import PROBLEMS
from .records import Study
from .settings import budget

QUICK_PROBLEMS = ("digits", "ill_conditioned", "factors")
QUICK_ENTRANTS = ("sgd", "adam", "adamw", "lion", "muon", "soap", "schedule_free_adamw", "prodigy")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options, or `CompareError` for one that is out of range."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.compare",
        description="Compare optimizers, all with the same budget. A stopped run goes on.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="eight optimizers on three problems, in three minutes")
    add("--problem", metavar="NAME", action="append", default=[], help="only this (repeatable)")
    add("--optimizer", metavar="TEXT", action="append", default=[], help="only this (repeatable)")
    add("--seed", type=int, default=0, help="the first seed (default 0)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)")
    add("--minutes", type=float, default=15, help="the longest that one optimizer may take")
    add("--out", metavar="PATH", help="where results go (default out/compare/seed0/results.json)")
    add("--again", action="store_true", help="do not take results of an earlier run")
    add("--list", action="store_true", help="show the problems and the optimizers, and stop")
    add("--publish", action="store_true", help="make the page in docs/ from the new results")
    add("--page", action="store_true", help="make the page in docs/ from the published results")
    add(
        "--agree", metavar="PATH", help="call significant what these results of other seeds say too"
    )
    options = parser.parse_args(argv)
    for name, least in (("seed", 0), ("workers", 1), ("minutes", 0.01)):
        if getattr(options, name) < least:
            raise CompareError(f"--{name} must be at least {least}, not {getattr(options, name)}.")
    if options.publish and (options.quick or options.problem or options.optimizer):
        raise CompareError(
            "--publish needs a whole run, without --quick, --problem or --optimizer."
        )
    folder = "quick" if options.quick else f"seed{options.seed}"
    options.out = Path(options.out or f"out/compare/{folder}/results.json")
    if options.out.suffix != ".json":
        raise CompareError(f"--out must end in .json, not {str(options.out)!r}.")
    return options


def studies(options: argparse.Namespace) -> list[Study]:
    """What is to be run: every optimizer on every problem that the options name."""
    problems = options.problem or (QUICK_PROBLEMS if options.quick else list(PROBLEMS))
    for name in problems:
        if name not in PROBLEMS:
            raise CompareError(f"there is no problem {name!r}. There are: {', '.join(PROBLEMS)}.")
    entrants = _entrants(options)
    return [
        Study(problem, entrant, budget(problem.costly, options.quick, options.seed))
        for problem in map(PROBLEMS.__getitem__, problems)
        for entrant in entrants
        if options.optimizer
        or (
            (entrant.costly or not problem.costly) and not (problem.vectors and entrant.of_matrices)
        )
    ]


def _entrants(options: argparse.Namespace) -> list[Entrant]:
    """The optimizers that the options name; a name alone is that of a line of the table."""
    texts = options.optimizer or (QUICK_ENTRANTS if options.quick else list(ENTRANTS))
    entrants = [ENTRANTS[text] if text in ENTRANTS else from_text(text) for text in texts]
    names = [entrant.name for entrant in entrants]
    if twice := {name for name in names if names.count(name) > 1}:
        raise CompareError(
            f"{' and '.join(sorted(twice))} is named more than once. Compare two settings of one "
            "optimizer in two runs, with two values of --out."
        )
    return entrants

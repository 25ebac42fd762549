"""Which optimizer is best, each with the same budget? The page is docs/comparison.md.

make compare                        all problems and optimizers; a stopped run goes on
make compare ARGS=--quick           eight optimizers on three problems, in three minutes
make compare ARGS='--optimizer "soap(3e-3)" --problem digits'
make compare ARGS=--list            the problems and the optimizers
make compare ARGS="--seed 100"      the same with other seeds, into a file of its own
make compare ARGS="--agree out/compare/seed100/results.json"      (also together with --publish)
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from . import records
from .agreement import with_second_run
from .costs import cost
from .entrants import ENTRANTS
from .errors import CompareError
from .estimate import announced
from .options import arguments, studies
from .page import PAGE, TABLES, write_pages
from .problems import PROBLEMS
from .records import Study
from .study import study
from .tables import print_tables
from .workers import run_all


def main(argv: list[str] | None = None) -> None:
    """Do what the options say; a mistake of the user raises `CompareError`."""
    options, console = arguments(argv), Console()
    if options.list:
        show_lists(console)
    elif options.page:
        publish(records.read(records.PUBLISHED), console)
    elif options.agree and not options.publish:
        publish(with_second(records.read(records.PUBLISHED), options, console), console)
    else:
        results = compare(options, console)
        if options.publish:
            publish(with_second(results, options, console), console)


def show_lists(console: Console) -> None:
    """Print every problem and every optimizer."""
    for problem in PROBLEMS.values():
        console.print(f"[bold]{problem.name}[/]: {problem.title}. {problem.why}", highlight=False)
    console.print()
    for entrant in ENTRANTS.values():
        console.print(f"{entrant.tx!r}", highlight=False, markup=False)


def compare(options: argparse.Namespace, console: Console) -> Any:
    """Run what is missing, write the results, and print a table for each problem."""
    todo = studies(options)
    folder = options.out.parent / "studies"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompareError(f"cannot write to {folder}: {error.strerror}.") from None
    found = [None if options.again else records.saved(folder, x) for x in todo]
    missing = [i for i, record in enumerate(found) if record is None]
    console.print(announced(todo, missing, options.workers), highlight=False, soft_wrap=True)

    remaining = [todo[i] for i in missing]
    tasks = [(study, tuple(x)) for x in remaining]
    for i, outcome in run_all(remaining, tasks, options.workers, options.minutes, console):
        record = {"problem": remaining[i].problem.name, "optimizer": remaining[i].entrant.name}
        found[missing[i]] = record | outcome
        records.save(folder, remaining[i], record | outcome)
    costs = measured_costs(todo, options, console)
    given = " ".join(["python -m examples.compare", *sys.argv[1:]])
    results = records.collect(todo, [x for x in found if x], costs, given)
    records.write(options.out, results)
    print_tables(results, console)
    console.print(f"results: {options.out}", soft_wrap=True, highlight=False, markup=False)
    return results


def measured_costs(todo: list[Study], options: argparse.Namespace, console: Console) -> Any:
    """The cost of each optimizer on the parameters of the last problem, one after the other."""
    problem = todo[-1].problem
    entrants = {x.entrant.name: x.entrant for x in todo}
    timed = [Study(problem, x, todo[-1].budget) for x in entrants.values()]
    console.print("The time of the optimizers alone:", highlight=False)
    tasks = [(cost, (problem, x)) for x in entrants.values()]
    outcomes = run_all(timed, tasks, 1, options.minutes, console)
    found = {timed[i].entrant.name: x for i, x in outcomes}
    gradients = (x.pop("gradient_microseconds") for x in found.values() if "error" not in x)
    return found | {"on": problem.name, "gradient_microseconds": next(iter([*gradients]), None)}


def with_second(results: Any, options: argparse.Namespace, console: Console) -> Any:
    """The results, with the run with other seeds that the options name, if they name one."""
    if options.agree:
        return with_second_run(results, records.read(Path(options.agree)), console)
    return results


def publish(results: Any, console: Console) -> None:
    """Publish results, and make the pages and the figures in the documentation from them alone."""
    records.write(records.PUBLISHED, results)
    write_pages(results)
    console.print(f"pages: {PAGE} and {TABLES}", soft_wrap=True, highlight=False, markup=False)


def run(argv: list[str] | None = None) -> None:
    """`main`, but a mistake of the user ends the process with a sentence and exit status 1."""
    try:
        main(argv)
    except CompareError as error:
        sys.exit(f"compare: {error}")
    except KeyboardInterrupt:
        sys.exit("compare: stopped. The same command goes on with what is left.")


if __name__ == "__main__":
    run()

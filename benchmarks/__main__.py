"""Measure gradtx beside its peers, and compare two measurements.

python -m benchmarks                              all benchmarks, to out/benchmarks.json
python -m benchmarks --quick --only steps         fewer rounds, one group or one benchmark
python -m benchmarks --compare OLD.json           measure, and print old, new and their ratio
python -m benchmarks --compare OLD.json NEW.json  the same from two files, without measuring
python -m benchmarks --table FILE.json            the table in Markdown, without measuring
python -m benchmarks --publish                    measure, and renew results.json and README.md
python -m benchmarks --publish --only NAME        renew these rows of the table, and keep the others
python -m benchmarks --source COMMIT              measure the gradtx of another commit or folder

JAX_PLATFORMS=cuda python -m benchmarks           the benchmarks for a GPU
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import results, runner, suite, tables
from benchmarks.registry import BENCHMARKS, Benchmark, Number

HERE = Path(__file__).parent
PUBLISHED = {"cpu": HERE / "results.json", "gpu": HERE / "results_gpu.json"}
PAGE = HERE / "README.md"
# A table that is written to a file keeps its lines whole.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="groups or benchmarks to run")
    add("--list", action="store_true", help="list the benchmarks, their goals and the reasons")
    add("--quick", action="store_true", help="measure fewer rounds")
    add("--busy", action="store_true", help="measure CPU time instead of time on the clock")
    add("--source", metavar="COMMIT_OR_FOLDER", help="the gradtx to measure")
    add("--torch", metavar="PYTHON", help="an interpreter that has torch, to compare with torch")
    add("--json", metavar="FILE", default="out/benchmarks.json", help="where the numbers go")
    add("--publish", action="store_true", help="write results.json and the table in README.md")
    add("--compare", nargs="+", metavar="FILE", help="one or two files of results")
    add("--table", metavar="FILE", help="print the table of a file in Markdown")
    add("--worker", choices=BENCHMARKS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.compare and len(options.compare) > 2:
        parser.error("--compare takes one file or two")
    return options


def chosen(only: list[str] | None, device: str) -> list[Benchmark]:
    """The benchmarks for a device with these names or in these groups, or all of them."""
    known = {name: x for x in BENCHMARKS.values() for name in (x.name, x.group)}
    here = [x for x in BENCHMARKS.values() if x.device == device]
    for name in only or ():
        if name not in known:
            sys.exit(f"benchmarks: {name!r} is neither a group nor a benchmark; see --list.")
        if not any(name in (x.name, x.group) for x in here):
            other = "JAX_PLATFORMS=cuda" if device == "cpu" else "JAX_PLATFORMS=cpu"
            sys.exit(f"benchmarks: {name!r} is not for a {device}; set {other} in the environment.")
    return [x for x in here if not only or {x.name, x.group} & {*only}]


def measure_all(options: argparse.Namespace, path: Path) -> results.Results:
    """Run the chosen benchmarks, each number printed above the bar and each result saved as it comes."""
    benchmarks = chosen(options.only, runner.device())
    found: results.Results = {"about": results.about(options.source, options.quick)}
    found["benchmarks"] = []
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        home = runner.placed(options.source or str(runner.ROOT), Path(folder, "source"))
        bar = progress.add_task("", total=len(benchmarks))
        for benchmark in benchmarks:
            progress.update(bar, description=benchmark.name)
            start = time.perf_counter()

            def announce(number: Number, benchmark: Benchmark = benchmark) -> None:
                entry = runner.number_entry(benchmark, number)
                line = f"{benchmark.name}, {number.case}: {tables.measured(entry)}"
                progress.console.print(escape(line), style="dim")

            entry = runner.run(benchmark, home, options.quick, announce)
            entry["seconds"] = round(time.perf_counter() - start, 1)
            found["benchmarks"].append(entry)
            found["about"]["load_after"] = results.load()
            results.save(found, path)  # a run that is interrupted keeps what it has measured
            progress.advance(bar)
    return found


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    # Otherwise this process would take most of the memory of a GPU from its children.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.worker:
        return runner.work(options.worker, options.quick)
    if options.list:
        return list_benchmarks()
    if options.table:
        return print(tables.markdown(results.read(options.table)), end="")
    if options.compare and len(options.compare) == 2:
        return compare(*map(results.read, options.compare))
    if options.busy:
        os.environ["BENCHMARK_CLOCK"] = "process_time"
        results.measure.clock = time.process_time
    if options.torch:
        os.environ[suite.muon_torch.TORCH] = options.torch
    old = results.read(options.compare[0]) if options.compare else None
    path = PUBLISHED[runner.device()] if options.publish else Path(options.json)
    some = options.publish and options.only  # the other rows of the table stay
    found = measure_all(options, Path(options.json) if some else path)
    if some:
        found = results.merged(results.read(path), found)
        results.save(found, path)
    if options.publish:
        tables.update_page(PAGE, found, runner.device())
    console.print(escape(tables.headline(found)))
    console.print(tables.terminal(found))
    console.print(f"numbers: {path}", soft_wrap=True)
    if old:
        names = {entry["name"] for entry in found["benchmarks"]}
        old["benchmarks"] = [entry for entry in old["benchmarks"] if entry["name"] in names]
        compare(old, found)


def compare(old: results.Results, new: results.Results) -> None:
    """Print both and the ratios; exit with status 1 if a number became worse beyond its interval."""
    table, worse = tables.comparison(old, new)
    console.print(escape(f"old: {tables.headline(old)}\nnew: {tables.headline(new)}"))
    if warning := tables.different_machines(old, new):
        console.print(escape(warning))
    console.print(table)
    if worse:
        sys.exit(f"benchmarks: {worse} numbers became worse beyond their intervals.")


def list_benchmarks() -> None:
    for x in BENCHMARKS.values():
        goals = x.goal if isinstance(x.goal, dict) else {"all cases": x.goal}
        console.print(f"[bold]{x.name}[/] ({x.group}): {escape(x.what)}, against {x.against}")
        for case, goal in goals.items():
            console.print(
                f"    {escape(case)}: " + (f"{goal.sense} {goal.limit:g}" if goal else "stated")
            )
        console.print(f"    {escape(' '.join(x.because.split()))}", style="dim")


if __name__ == "__main__":
    main()

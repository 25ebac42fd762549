"""How things are measured: compiled programs by what they contain, runs by interleaved ratios."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.hlo import products

Run = Callable[[], Any]
# `time.process_time` counts what this process computes, whatever else the machine does meanwhile.
clock = time.perf_counter


class Row(NamedTuple):
    """A line of the table; `reached` is None where there is nothing to reach."""

    what: str
    against: str
    goal: str
    measured: str
    reached: bool | None = None


class Ratio(NamedTuple):
    """Our time over another's, over the rounds in which both ran side by side."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.2f} to {self.high:.2f})"


class Program(NamedTuple):
    """A compiled program, and what it says of itself."""

    lowered: Any
    run: Any
    trace: float
    compile: float
    bytes: float
    temporary: int
    dots: int
    flops: int


def interleaved(rounds: int, *runs: Run) -> list[list[float]]:
    """Seconds of every run in every round, A B C A B C ..., after one round to warm up."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, seconds in zip(runs, times, strict=True):
            gc.collect()
            gc.disable()
            start = clock()
            jax.block_until_ready(run())
            if turn:
                seconds.append(clock() - start)
            gc.enable()
    return times


def ratio(rounds: int, ours: Run, theirs: Run) -> Ratio:
    """Each round's own quotient, so that a machine that slows down slows both."""
    return quotient(*interleaved(rounds, ours, theirs))


def quotient(ours: list[float], theirs: list[float]) -> Ratio:
    """The quotients of paired times."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def trace(f: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()) -> tuple[float, Any]:
    """Seconds to trace and lower `f` for arguments (or their shapes) from a cold start."""
    jax.clear_caches()
    gc.collect()
    start = clock()
    lowered = jax.jit(f, donate_argnums=donate).lower(*args)
    return clock() - start, lowered


def build(f: Callable[..., Any], *args: Any, donate: tuple[int, ...] = ()) -> Program:
    """Compile `f` for arguments (or their shapes), without running it."""
    seconds, lowered = trace(f, *args, donate=donate)
    traced = clock()
    program = lowered.compile()
    done = clock()
    cost, memory, dots = (
        program.cost_analysis(),
        program.memory_analysis(),
        products(program.as_text()),
    )
    return Program(
        lowered,
        program,
        seconds,
        done - traced,
        cost.get("bytes accessed", 0.0),
        memory.temp_size_in_bytes,
        dots.count,
        dots.flops,
    )


def stepping(program: Program, params: Any, state: Any, gradients: Any) -> Run:
    """Runs of a donated step `(params, state, gradients) -> (params, state)`, one after another."""
    carried = jax.tree.map(lambda x: x.copy(), (params, state))

    def run() -> Any:
        nonlocal carried
        carried = program.run(*carried, gradients)
        return carried

    return run


def size(tree: Any) -> int:
    """Numbers in a tree."""
    return sum(x.size for x in jax.tree.leaves(tree))


# Written to a file, the table keeps its lines whole.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[str], None]]:
    """A bar, and the function that moves it on and says what comes next."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=steps)

        def say(what: str) -> None:
            bar.update(task, advance=1 if bar.tasks[0].description else 0, description=what)

        yield say


def show(rows: list[Row]) -> None:
    """The table on a terminal."""
    table = Table("what", "against", "goal", "measured", "reached", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row[:4], _answer(row))
    console.print(table)


def markdown(rows: list[Row]) -> str:
    """The table for a README."""
    head = "| what | against | goal | measured | reached |\n|---|---|---|---|---|\n"
    return head + "\n".join(f"| {' | '.join((*row[:4], _answer(row)))} |" for row in rows)


def _answer(row: Row) -> str:
    return {True: "yes", False: "no", None: ""}[row.reached]

"""All studies side by side, one process per core, so that a crash or a limit ends one study only."""

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .records import Study

Task = tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]


class Worker:
    """A process that runs one task after the other, on a core of its own where the system allows it."""

    def __init__(self, core: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.core = core
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, core), daemon=True)
        # The processes share the cores, so each of them computes with one thread.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"
        try:
            self.process.start()
        finally:
            os.environ["XLA_FLAGS"] = flags
        other.close()
        self.index: int | None = None
        self.deadline = math.inf

    def begin(self, index: int, task: Task) -> None:
        self.index, self.deadline = index, math.inf
        self.pipe.send(task)

    def outcome(self, seconds: float) -> dict[str, Any] | None:
        """What came of the task, or None if it has just begun; a sentence if the process ended before.

        The time of a task begins when its process has started, which may take long on a busy machine.
        """
        try:
            received = self.pipe.recv()
        except EOFError:
            self.process.join()
            return {"error": _death(self.process.exitcode)}
        if received is None:
            self.deadline = time.monotonic() + seconds
        return received

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()


def _serve(pipe: Any, core: int) -> None:
    """Run tasks until the pipe closes."""
    with contextlib.suppress(AttributeError, OSError):  # not every system can
        os.sched_setaffinity(0, {core})
    while True:
        try:
            function, args = pipe.recv()
            pipe.send(None)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            pipe.send(function(*args))
        except KeyboardInterrupt:
            return
        except Exception as error:
            pipe.send({"error": _sentence(error)})


def _sentence(error: Exception) -> str:
    text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"It ran out of memory ({text})."
    return text


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"The system ended its process (signal {-exit_code}), perhaps for want of memory."
    return f"Its process ended with status {exit_code}."


def run_all(
    studies: list[Study],
    tasks: list[Task],
    workers: int,
    minutes: float,
    console: Console,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run all tasks, and give the index and the outcome of each one as it ends.

    Args:
        studies: what the tasks are, for the progress bar.
        tasks: a function and its arguments for each study.
        workers: how many processes run at the same time.
        minutes: how long one task may take.
        console: where the progress bar goes.
    """
    waiting = list(enumerate(tasks))[::-1]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    pool = [Worker(cores[i % len(cores)]) for i in range(min(workers, len(tasks)))]
    columns = (TextColumn("{task.description:36}"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bar = progress.add_task("", total=len(tasks))

            def feed(worker: Worker) -> None:
                worker.index = None
                if waiting:
                    index, task = waiting.pop()
                    study = studies[index]
                    progress.update(
                        bar, description=f"{study.entrant.name} on {study.problem.name}"
                    )
                    worker.begin(index, task)

            for worker in pool:
                feed(worker)
            while busy := [worker for worker in pool if worker.index is not None]:
                ready = multiprocessing.connection.wait([w.pipe for w in busy], timeout=1.0)
                for worker in busy:
                    late = time.monotonic() > worker.deadline
                    if worker.pipe not in ready and not late:
                        continue
                    index = worker.index
                    assert index is not None
                    if worker.pipe in ready:
                        outcome = worker.outcome(60 * minutes)
                        if outcome is None:
                            continue
                    else:
                        outcome = {"error": f"It took longer than {minutes:g} minutes."}
                        worker.stop()
                    yield index, outcome
                    progress.advance(bar)
                    if not worker.process.is_alive():
                        pool[pool.index(worker)] = worker = Worker(worker.core)
                    feed(worker)
    finally:
        for worker in pool:
            worker.stop()

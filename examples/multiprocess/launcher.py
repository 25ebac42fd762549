"""Starting the processes of a job on this machine, and ending all of them when one fails."""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

GRACE = 2.0  # seconds in which the other processes may fail as well, before the cause is looked for


class JobFailed(Exception):
    """A process of the job has failed, and all others were ended."""


def launch(arguments, processes, devices, heartbeat, logs):
    """Start the processes of a job, and wait until all of them have ended.

    What the first process prints is shown. Everything else is written into the folder `logs`.

    Args:
        arguments: the arguments of the worker that are the same for all processes.
        processes: how many processes there are.
        devices: how many devices each process has.
        heartbeat: after how many seconds without a sign of life a process counts as lost.
        logs: the folder for one file per process.

    Raises:
        JobFailed: if a process failed, with a sentence that says which one, and how.
    """
    logs.mkdir(parents=True, exist_ok=True)
    files = [logs / f"process_{i}.txt" for i in range(processes)]
    job = ["--coordinator", f"localhost:{free_port()}", "--processes", str(processes)]
    job += ["--heartbeat", str(heartbeat), *arguments]
    workers = [started(job, i, devices, file) for i, file in enumerate(files)]
    ids = ", ".join(f"process {i} is {worker.pid}" for i, worker in enumerate(workers))
    print(
        f"{counted(processes, 'process')} with {counted(devices, 'device')} each: {ids}", flush=True
    )
    ended = queue.SimpleQueue()

    def wait(i):
        ended.put((i, workers[i].wait()))

    for i in range(processes):
        threading.Thread(target=wait, args=(i,), daemon=True).start()
    try:
        for _ in workers:
            _, status = ended.get()
            if status:
                time.sleep(GRACE)
                statuses = [worker.poll() for worker in workers]
                raise JobFailed(cause(statuses, files, heartbeat))
    finally:
        # A process that is stopped or waits for a lost one does not react to a polite signal. Killing
        # it loses nothing, since a checkpoint has its name only when it is complete.
        for worker in workers:
            worker.kill()
            worker.wait()


def started(job, i, devices, file):
    """One process of the job. Its standard input is a pipe, which closes when the launcher ends."""
    count = f"--xla_force_host_platform_device_count={devices}"
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", "")
    )
    with file.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "examples.multiprocess.worker", "--process", str(i), *job],
            stdin=subprocess.PIPE,
            stdout=None if i == 0 else log,
            stderr=log,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"XLA_FLAGS": f"{flags} {count}".strip(), "JAX_PLATFORMS": "cpu"},
        )


def counted(n, noun):
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def cause(statuses, files, heartbeat):
    """A sentence about the process that failed first, given the statuses of all of them.

    When a process is lost, the others fail as well: JAX aborts them, or a collective operation raises
    an error. So a process that was killed by another signal is the cause, if there is one.
    """
    logs = [file.read_text(errors="replace") for file in files]
    names = [f"Process {i} of {len(statuses)}" for i in range(len(statuses))]
    for name, status in zip(names, statuses, strict=True):
        if status is not None and status < 0 and status != -signal.SIGABRT:
            return f"{name} was killed by the signal {signal.Signals(-status).name}."
    lost = {int(i) for text in logs for i in silent_ones(text)}
    running = [i for i, status in enumerate(statuses) if status is None]
    for i in [i for i in running if i in lost] or sorted(lost):
        return f"{names[i]} gave no sign of life for {heartbeat} seconds."
    for name, status, text in zip(names, statuses, logs, strict=True):
        if status and status > 0:
            return f"{name} failed: {last_line(text)}"
    for name, status in zip(names, statuses, strict=True):
        if status:
            return f"{name} was aborted by JAX, since it lost its connection to another process."
    raise AssertionError(f"all processes ended well: {statuses}")


def silent_ones(log):
    """The numbers of the processes whose heartbeats JAX missed, by what it wrote into a log."""
    found = re.search(r"unhealthy \(stopped sending heartbeats\):?((?:\s*\d+\n)+)", log)
    return found[1].split() if found else []


def last_line(log):
    """The line of a log with the error of Python."""
    lines = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception|Exit)\b", line)]
    return lines[-1] if lines else "its log says more."

"""A report at the end of a run: CPU time of the tests, of each row of the zoo, and memory.

`conftest.py` registers this module as a plugin of pytest. With xdist, every worker measures its tests
and sends the numbers along with its reports.
"""

import collections
import resource
import statistics
import sys
import time
from pathlib import Path

import jax
import pytest

# What all laws of one row of the zoo may take, in CPU-seconds on a fast machine.
BUDGET = 1.5
SLOWEST = 5

_started: dict[str, float] = {}
_by_row: collections.Counter[str] = collections.Counter()
_by_law: collections.Counter[str] = collections.Counter()
_by_folder: collections.Counter[str] = collections.Counter()
_peaks: dict[str, float] = {}
# Programs that were asked for, and those of them that were read from a file, which takes less time.
_requests = "/jax/compilation_cache/compile_requests_use_cache"
_hits = "/jax/compilation_cache/cache_hits"
_seen: collections.Counter[str] = collections.Counter()
_programs: collections.Counter[str] = collections.Counter()


def _peak_gigabytes() -> float:
    """The most memory that this process has held at any time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)  # bytes there, kilobytes elsewhere


def pytest_sessionstart():
    jax.monitoring.register_event_listener(lambda event, **_: _seen.update([event]))


def pytest_runtest_logstart(nodeid):
    _started[nodeid] = time.process_time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        report.user_properties = [
            ("cpu_seconds", time.process_time() - _started.pop(item.nodeid)),
            ("row", str(row) if row is not None and "laws" in item.path.parts else None),
            ("peak_gigabytes", _peak_gigabytes()),
            ("programs", {event: _seen.pop(event, 0) for event in (_requests, _hits)}),
        ]
    return report


def pytest_runtest_logreport(report):
    if report.when != "teardown":
        return
    measured = dict(report.user_properties)
    if "cpu_seconds" not in measured:
        return
    _programs.update(measured["programs"])
    # The report of a worker also passes here in the worker, which prints nothing.
    folder = Path(report.nodeid.partition("::")[0]).parent
    _by_folder[str(folder)] += measured["cpu_seconds"]
    if measured["row"] is not None:
        _by_row[measured["row"]] += measured["cpu_seconds"]
        _by_law[report.nodeid.partition("::")[2].partition("[")[0]] += measured["cpu_seconds"]
    worker = getattr(report, "worker_id", "main")
    _peaks[worker] = max(_peaks.get(worker, 0.0), measured["peak_gigabytes"])


def pytest_terminal_summary(terminalreporter):
    if not _by_folder or sum(_by_folder.values()) < 10:
        return  # a few tests need no report
    write = terminalreporter.write_line
    terminalreporter.section("time and memory")
    peaks = ", ".join(f"{worker} {peak:.2f} GB" for worker, peak in sorted(_peaks.items()))
    write(f"{sum(_by_folder.values()):.0f} CPU-seconds in tests; the most memory held: {peaks}")
    if _programs[_requests]:
        write(
            f"{_programs[_requests]} compiled programs, {_programs[_hits]} of them read from files "
            "(JAX_ENABLE_COMPILATION_CACHE=false measures without the files)"
        )
    for folder, seconds in _by_folder.most_common():
        write(f"{seconds:8.1f} s  {folder}")
    if _by_row:
        over = sum(seconds > BUDGET for seconds in _by_row.values())
        write(
            f"{len(_by_row)} rows of the zoo: median {statistics.median(_by_row.values()):.2f} "
            f"CPU-seconds each; {over} took more than {BUDGET}, the budget on a fast machine"
        )
        for row, seconds in _by_row.most_common(SLOWEST):
            write(f"{seconds:8.2f} s  {row}")
        write("the laws that took most of it:")
        for law, seconds in _by_law.most_common(SLOWEST):
            write(f"{seconds:8.2f} s  {law}")

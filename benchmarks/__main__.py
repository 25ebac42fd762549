"""`python -m benchmarks`: every number that is to be reached, measured and printed as one table."""

import argparse
import os
import time
from collections.abc import Iterator

import jax

from benchmarks import elementwise, harness, muon
from benchmarks.harness import Row, console, markdown, progress, show

# How often each part says what it does now, for the bar.
STEPS = {"elementwise": 8, "muon": 10}


def announced(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows as they come, each printed above the bar."""
    for row in rows:
        console.print(f"{row.what}: {row.measured}", style="dim")
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: about a minute")
    parser.add_argument("--only", choices=tuple(STEPS), help="one part of the table")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch, to compare")
    parser.add_argument("--markdown", action="store_true", help="print the table for README.md")
    parser.add_argument("--busy", action="store_true", help="CPU time, not time on the clock")
    options = parser.parse_args()
    if options.busy:
        harness.clock = time.process_time
    parts = [name for name in STEPS if options.only in (None, name)]
    rows = []
    with progress(sum(STEPS[name] for name in parts)) as say:
        if "elementwise" in parts:
            rows += announced(elementwise.rows(options.quick, say))
        if "muon" in parts:
            rows += announced(muon.rows(options.quick, say, options.torch))
    device, cores, load = jax.devices()[0].device_kind, os.cpu_count(), os.getloadavg()[1]
    console.print(f"JAX {jax.__version__}, {device}, {cores} cores; medians (least to most)")
    if options.busy:
        console.print("times are CPU time")
    elif load > 2 * (cores or 1):
        console.print(f"The machine was busy with other work (load {load:.0f}): see --busy.")
    console.print()
    if options.markdown:
        print(markdown(rows))
    else:
        show(rows)


if __name__ == "__main__":
    main()

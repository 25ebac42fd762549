"""A step for a large model on many devices, compiled and not run."""

from collections.abc import Iterator
from typing import Any

import gradtx
from benchmarks.models import RATE
from benchmarks.planning import HARDWARE, sharded
from benchmarks.registry import Number, at_most, benchmark


@benchmark(
    group="planning",
    against="a bound",
    goal={"to compile": at_most(30), "large operations": at_most(10), "sent": at_most(1.3e9)},
    because="""A bound: each of 7 billion numbers in matrices has 4 bytes, and is sent there and back,
    which is 0.87 GB per device. Padding adds a quarter of that. There are four shapes of matrices,
    and at most five groups of two exchanges.""",
)
def muon_for_8b(quick: bool) -> Iterator[Number]:
    """A step of Muon for 8 billion parameters in stacked layers on 64 devices"""
    found = gradtx.plan(gradtx.muon(RATE), sharded("8B", 64), **HARDWARE)
    large = sum(x.runs for x in found.traffic if x.bytes > 2**20)
    yield Number("to compile", found.compile_seconds, "s")
    yield Number("large operations", large, "events")
    details: Any = {"temporaries": (found.temporary_bytes, "B")}
    yield Number("sent", found.sent_bytes, "B", details=details)

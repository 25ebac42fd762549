"""Steps that are compiled ahead of time for eight TPUs, on a machine without one."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import gradtx
from benchmarks.models import RATE
from benchmarks.recipes import RECIPES
from benchmarks.registry import Number, at_most, benchmark

TOPOLOGY = "v5e:2x4"
# Sharded matrices of one shape are one group: one exchange there, and one exchange back. The norms of
# AdaMuon and the rows of NorMuon are sums and exchanges of a few numbers.
EXCHANGES = {"muon": 2, "muon, bfloat16 on the wire": 2, "scion": 2, "normuon": 4, "adamuon": 4}
ELEMENTWISE = (
    "sgd",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
    "adamw",
    "amsgrad",
    "nadam",
    "nadamw",
)
CASES = {
    name: RECIPES[name](RATE) for name in (*ELEMENTWISE, "muon", "normuon", "adamuon", "scion")
}
CASES["muon, bfloat16 on the wire"] = gradtx.muon(RATE, exchange_dtype="bfloat16")


def no_compiler() -> str:
    found = importlib.util.find_spec("libtpu")
    return "" if found else "libtpu is not installed: pip install 'gradtx[tpu-aot]'."


def sharded() -> Any:
    """Sixteen matrices whose last axes are sharded over eight devices."""
    mesh = AbstractMesh((8,), ("data",), axis_types=(AxisType.Auto,))
    columns = NamedSharding(mesh, PartitionSpec(None, "data"))
    one = jax.ShapeDtypeStruct((256, 1024), jnp.float32, sharding=columns)
    return {f"kernel{i}": one for i in range(16)}


@benchmark(
    group="tpu",
    against="a bound",
    goal={case: at_most(EXCHANGES.get(case, 0)) for case in CASES},
    because="""A bound: elementwise optimizers need no communication, and optimizers of matrices
    exchange all matrices of one shape at once, there and back.""",
    skip=no_compiler,
)
def collectives_on_tpu(quick: bool) -> Iterator[Number]:
    """Collective operations of a step for TPU v5e:2x4, 16 x (256 x 1024)"""
    for case, tx in CASES.items():
        if quick and case not in EXCHANGES:
            continue
        found = gradtx.plan(tx, sharded(), topology=TOPOLOGY)
        details: Any = {
            "sent": (found.sent_bytes, "B"),
            "state": (found.state_bytes, "B"),
            "temporaries": (found.temporary_bytes, "B"),
            "to compile": (found.compile_seconds, "s"),
        }
        yield Number(case, found.operations, "events", details=details)

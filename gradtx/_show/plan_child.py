"""The process that compiles a step for `gradtx.plan`, for devices that this machine need not have.

It is a process of its own, because JAX fixes the number of its devices when it starts. The step arrives
as an exported program, so the process needs JAX, and nothing of gradtx or of the user.
"""

import math
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def main(folder: str) -> None:
    """Compile the job in this folder, and leave the text of the program and its cost there."""
    job = pickle.loads(Path(folder, "job").read_bytes())
    count = math.prod(job["sizes"])
    jax.config.update("jax_enable_x64", job["x64"])
    devices = virtual_devices(count) if job["topology"] is None else tpu_devices(job["topology"])
    if len(devices) < count:
        raise ValueError(
            f"the topology {job['topology']!r} has {len(devices)} devices, and the mesh has {count}."
        )
    kinds = tuple(AxisType[name] for name in job["axis_types"])
    mesh = Mesh(np.array(devices[:count]).reshape(job["sizes"]), job["names"], axis_types=kinds)
    arguments = []
    for shape, dtype, spec, memory_kind in job["arguments"]:
        sharding = NamedSharding(mesh, PartitionSpec(*spec), memory_kind=memory_kind)
        arguments.append(jax.ShapeDtypeStruct(shape, dtype, sharding=sharding))
    # The first arguments are parameters and state, whose place the results take.
    results = tuple(x.sharding for x in arguments[: job["results"]])
    donated = tuple(range(job["results"]))
    step = jax.jit(job["step"].call, donate_argnums=donated, out_shardings=results)
    lowered = step.lower(*arguments)
    start = time.process_time()
    # How much LLVM optimizes within a kernel changes nothing that is counted.
    fast: Any = {"xla_backend_optimization_level": 0} if job["topology"] is None else {}
    program = lowered.compile(fast)
    seconds = time.process_time() - start
    temporary = getattr(program.memory_analysis(), "temp_size_in_bytes", 0)
    Path(folder, "text").write_text(program.as_text() or "")
    Path(folder, "found").write_bytes(pickle.dumps((temporary, seconds)))


def virtual_devices(count: int) -> Any:
    """So many devices of the CPU."""
    jax.config.update("jax_num_cpu_devices", count)
    return jax.devices("cpu")


def tpu_devices(topology: str) -> Any:
    """The devices of a TPU topology, none of which need exist."""
    from jax.experimental import topologies

    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


if __name__ == "__main__":
    main(sys.argv[1])

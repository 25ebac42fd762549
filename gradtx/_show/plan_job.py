"""The step of an optimizer, exported for a mesh that need not exist, and compiled by a child process."""

import dataclasses
import os
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax import export

from gradtx._core.trees import PyTree
from gradtx._training.apply import apply_updates

CHILD = Path(__file__).with_name("plan_child.py")
# The compiler of TPUs asks a server of the cloud where it runs, unless it is told. It also refuses to be
# loaded twice on a machine, unless it may, because two processes cannot share a TPU.
_TPU = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
}


class Exported(NamedTuple):
    """The step of an optimizer as a lowered program.

    Attributes:
        program: what `jax.export` returns, for one argument per array.
        arrays: the shapes of these arrays: parameters, state, gradients, and further arguments.
        results: how many arrays the parameters and the state hold together, which are the results.
    """

    program: Any
    arrays: list[Any]
    results: int


class Built(NamedTuple):
    """A compiled step.

    Attributes:
        text: the program of one device.
        temporary_bytes: the memory that a device needs besides arguments and results.
        seconds: the CPU time that compiling took.
    """

    text: str
    temporary_bytes: int
    seconds: float


def export_step(
    tx: Any, params: PyTree, state: Any, extra: dict[str, Any], platform: str
) -> Exported:
    """Lower the step that computes new parameters and a new state, for sharded shapes."""
    carried, structure = jax.tree.flatten((params, state))
    leaves, whole = jax.tree.flatten((params, state, _gradients(params), extra))
    is_array = [hasattr(x, "dtype") for x in leaves]

    def step(*arrays: Any) -> tuple[Any, ...]:
        given = iter(arrays)
        merged = [next(given) if known else x for x, known in zip(leaves, is_array, strict=True)]
        params, state, gradients, extra = jax.tree.unflatten(whole, merged)
        updates, state = tx.update(gradients, state, params, **extra)
        new = structure.flatten_up_to((apply_updates(params, updates), state))
        return tuple(x for x, old in zip(new, carried, strict=True) if hasattr(old, "dtype"))

    shardings = tuple(x.sharding for x in carried if hasattr(x, "dtype"))
    donated = tuple(range(len(shardings)))
    jitted = jax.jit(step, donate_argnums=donated, out_shardings=shardings)
    arrays = [x for x, known in zip(leaves, is_array, strict=True) if known]
    program = export.export(jitted, platforms=[platform])(*arrays)
    # It holds a function that differentiates it, which cannot be sent to a process.
    fields = [field.name for field in dataclasses.fields(program)]
    functions = [name for name in fields if callable(getattr(program, name))]
    program = dataclasses.replace(program, **dict.fromkeys(functions))
    return Exported(program, arrays, len(shardings))


def _gradients(params: PyTree) -> PyTree:
    """Gradients like the parameters; None for a leaf that is not an array."""
    return jax.tree.map(lambda x: x if hasattr(x, "dtype") else None, params)


def compile_step(step: Exported, mesh: Any, topology: str | None, timeout: float) -> Built:
    """Compile the step in a process that has as many devices as the mesh.

    Args:
        step: the exported step.
        mesh: the mesh of its arrays.
        topology: the name of a TPU topology, or None for virtual devices of the CPU.
        timeout: after so many seconds the process is stopped.

    Raises:
        TimeoutError: if the process was stopped.
        RuntimeError: if it failed.
    """
    job = {
        "step": step.program,
        "arguments": [
            (x.shape, x.dtype, tuple(x.sharding.spec), x.sharding.memory_kind) for x in step.arrays
        ],
        "results": step.results,
        "sizes": mesh.axis_sizes,
        "names": mesh.axis_names,
        "axis_types": [kind.name for kind in mesh.axis_types],
        "topology": topology,
        "x64": jax.config.jax_enable_x64,  # pyright: ignore
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job").write_bytes(pickle.dumps(job))
        # With -P, the files beside the child's do not hide modules of Python with the same names.
        command = [sys.executable, "-P", str(CHILD), folder]
        try:
            done = subprocess.run(
                command, env=_environment(), capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"`plan(timeout={timeout:g})`: the step did not compile within this many seconds, and "
                "the compilation was stopped. Pass a larger `timeout`, or stack the layers of the "
                "model, so that the program is smaller."
            ) from None
        if done.returncode:
            raise RuntimeError(
                f"`plan`: the process that compiles the step failed: {_message(done.stderr)}"
            )
        found = pickle.loads(Path(folder, "found").read_bytes())
        return Built(Path(folder, "text").read_text(), *found)


def _environment() -> dict[str, str]:
    """The environment of the child, where the CPU has as many devices as the child asks for."""
    flags = re.sub(
        r"--xla_force_host_platform_device_count=\S*", "", os.environ.get("XLA_FLAGS", "")
    )
    own = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "", "XLA_FLAGS": flags}
    # A program that a cache holds would take no time.
    own["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return {name: x for name, x in (os.environ | own | _TPU).items() if x}


def _message(text: str) -> str:
    """The line of a traceback that names the error; JAX prints other lines below it."""
    errors = [line for line in text.splitlines() if re.match(r"[\w.]+(?:Error|Exception)\b", line)]
    return (errors or text.strip().splitlines() or ["it said nothing."])[-1]

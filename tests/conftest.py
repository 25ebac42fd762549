"""Strict settings for all tests, and how their programs are compiled.

Warnings are errors too, by `filterwarnings` in pyproject.toml. JAX reads its settings from the
environment once, so they stand here before its first import. As environment variables they also reach
the processes that a test starts.
"""

import importlib.metadata
import os
import shutil
import zlib
from pathlib import Path

# Eight devices, so that every test may build a mesh. A caller who names a count keeps it.
_flags = os.environ.get("XLA_FLAGS", "").split()
if not any("xla_force_host_platform_device_count" in flag for flag in _flags):
    _flags.append("--xla_force_host_platform_device_count=8")
# A worker has one core: a program that is compiled in one piece takes a sixth less CPU time.
_flags.append("--xla_cpu_parallel_codegen_split_count=1")
# QUICK_COMPILE=1 asks for an older emitter of kernels and for few optimizations, which takes a third of
# the time. (Without any optimization, XLA compiled a derivative to infinity that is finite when each
# operation is computed by itself.) Later versions of XLA lack that emitter and abort on its flag.
_quick = os.environ.get("QUICK_COMPILE", "0") != "0"
if _quick and importlib.metadata.version("jaxlib").startswith("0.10."):
    _flags.append("--xla_cpu_use_fusion_emitters=false")
    _flags.append("--xla_backend_optimization_level=1")
os.environ["XLA_FLAGS"] = " ".join(_flags)
# The laws are about numbers, not about a device: `JAX_PLATFORMS=cuda,cpu pytest` asks for another. There
# tests that need several devices are skipped. Tolerances count the roundings of exact products.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if not os.environ["JAX_PLATFORMS"].startswith("cpu"):
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Two workers, each with a thread of OpenBLAS per core, only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Compiled programs are kept in files, which the other worker, the processes that a test starts and later
# runs read. JAX finds a program by its text, by the flags above and by its own version. The name of the
# folder stands for the instructions of the processor, in case the folder is carried to another machine.
# `make clean` removes the files. JAX_ENABLE_COMPILATION_CACHE=false neither reads nor writes them.
_cpu = Path("/proc/cpuinfo")
_able = [x for x in _cpu.read_text().splitlines() if x.startswith("flags")] if _cpu.exists() else []
PROGRAMS = Path(__file__).parents[1] / ".pytest_cache" / "programs"
_folder = PROGRAMS / f"{zlib.crc32(''.join(_able[:1]).encode()):08x}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_folder))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Assigned, not defaulted: no caller's shell may loosen these. A silent promotion is how a
# bfloat16 moment or a broadcast bias slips through.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
import memory
import pytest
import report
from hypothesis import HealthCheck, settings

# Fails if a plugin imported JAX earlier and the lines above came too late.
assert jax.config.jax_numpy_dtype_promotion == "strict"

# An example often compiles a new program, so a slow one is not a defect, and there is not a deadline.
# Twenty examples find what a wrong equation shows. Under CI the examples are always the same, so that
# a change never fails for what the one before it drew.
settings.register_profile(
    "gradtx",
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
)
settings.load_profile("gradtx")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    try:
        return (yield)
    except ValueError as error:
        if jax.device_count() < 8 and "must be >= the product of mesh_shape" in str(error):
            pytest.skip(f"The mesh of this test needs more than {jax.device_count()} device(s).")
        raise


def pytest_configure(config):
    # A run writes some hundred megabytes. Where old programs add up to more, it starts an empty folder.
    size = sum(file.stat().st_size for file in PROGRAMS.rglob("*"))
    if "PYTEST_XDIST_WORKER" not in os.environ and size > 500_000_000:
        shutil.rmtree(PROGRAMS)
    # As plugins of their own they see doctests too, which the hooks of this file do not.
    config.pluginmanager.register(memory, "compiled programs")
    config.pluginmanager.register(report, "time and memory")

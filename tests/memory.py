"""What keeps the memory of the processes that run the tests small, and saves CPU time on the way.

`conftest.py` registers this module as a plugin of pytest.
"""

import contextlib
import ctypes
import gc
import importlib
import itertools
import os

import jax

# A process that holds this much memory drops all compiled programs before the next test.
_MOST_BYTES = 1_200_000_000
# So many programs are lowered in one context of MLIR.
_PER_CONTEXT = 200


def _resident_bytes():
    """The memory that this process holds, or 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _give_back():
    """Give the memory that is free back to the system, which the allocator of Linux does when asked."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _drop_caches():
    if _resident_bytes() > _MOST_BYTES:
        jax.clear_caches()
        gc.collect()
        _give_back()


def _share_contexts():
    """Let several programs be lowered in one context of MLIR, where JAX makes one for each program.

    A context takes 3 ms of CPU time and 1.3 MB, which is most of the memory of a small program, and JAX
    keeps it as long as the program. What is lowered and compiled stays the same. The function is private
    to JAX. If a version of JAX lacks it, that version makes its contexts as always.
    """
    try:
        mlir = importlib.import_module("jax._src.interpreters.mlir")
        make = mlir.make_ir_context
    except (ImportError, AttributeError):
        return
    made, count = [], itertools.count()

    def context():
        # A context keeps the constants of its programs, so a new one takes its place in time.
        if next(count) % _PER_CONTEXT == 0:
            made[:] = [make()]
        return made[0]

    mlir.make_ir_context = context


def pytest_sessionstart():
    _share_contexts()
    # Tracing makes many objects that live on, and the collector looks at them 7% of the time by default.
    gc.set_threshold(50_000, 20, 20)


def pytest_runtest_setup():
    _drop_caches()

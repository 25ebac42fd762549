"""A process that holds much memory drops its compiled programs before the next test.

`conftest.py` registers this module as a plugin of pytest.
"""

import contextlib
import ctypes
import gc
import os

import jax
import pytest

# A process that holds this much memory drops all compiled programs, which would take 4.6 GB in the end.
_MOST_BYTES = 1_300_000_000


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


def _drop_caches(limit):
    if _resident_bytes() > limit:
        jax.clear_caches()
        gc.collect()
        _give_back()


def pytest_runtest_setup():
    _drop_caches(_MOST_BYTES)


@pytest.fixture
def much_memory():
    """For a test that takes up to half a gigabyte more, such as a page with many programs."""
    _drop_caches(_MOST_BYTES - 500_000_000)

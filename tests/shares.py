"""Which rows of a long table a test runs on: all with `ROWS=all`, and a share of them otherwise."""

import os
import zlib

EVERY = os.environ.get("ROWS") == "all"


def share(rows, test, part):
    """About one row of `part` rows, other ones for each test; all of them with `ROWS=all`.

    A row is in the share or not by its own text, so that a new row moves no other one.
    """
    return [x for x in rows if EVERY or zlib.crc32(f"{test} {x}".encode()) % part == 0]

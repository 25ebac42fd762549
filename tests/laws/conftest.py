"""The fixture `row` of all laws, and the order in which the laws run: row after row.

A row's laws run one after the other, in whichever file they stand, because they share compiled programs.
`make laws` runs every law on every row. A test run takes a share of the rows, another one for each law,
because most rows are made of parts that have rows themselves. A row is in a share or not by its code, so
a new row moves no other one. What `ROWS` in the environment says:

- `all`: every law on every row; laws marked `representatives` compile, and run on `zoo.REPRESENTATIVES`;
- nothing: laws that compile on a fifth of their rows, other laws on half of the representatives and on a
  sixth of the recipes that only compose;
- `few`: on a sixth of the rows, and laws that compile on `zoo.FEW`, for another version of JAX.

Laws marked `every` cost next to nothing, and run on every row in each run.
"""

import os

import pytest
import zoo
from shares import EVERY, share


def pytest_configure(config):
    for line in (
        "representatives: a law that compiles; for rows that are not recipes, and for a few recipes",
        "others: a law for all rows that are not representatives",
        "every: a law that costs next to nothing, and runs on every row in each run",
    ):
        config.addinivalue_line("markers", line)


def rows_of(law, marker):
    """The rows that a law runs on in this run."""
    rows = {"representatives": zoo.REPRESENTATIVES, "others": zoo.OTHERS}.get(marker, zoo.ROWS)
    if EVERY or marker == "every":
        return rows
    if os.environ.get("ROWS") == "few":
        return zoo.FEW if marker == "representatives" else share(rows, law, 6)
    if marker:
        return share(rows, law, 5 if marker == "representatives" else 6)
    return [*share(zoo.REPRESENTATIVES, law, 2), *share(zoo.OTHERS, law, 6)]


def pytest_generate_tests(metafunc):
    of_its_own = any(
        "row" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "row" in metafunc.fixturenames and not of_its_own:
        markers = {mark.name for mark in metafunc.definition.iter_markers()}
        (marker,) = markers & {"representatives", "others", "every"} or {""}
        metafunc.parametrize("row", rows_of(metafunc.definition.name, marker), ids=str)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    place = {row: i for i, row in enumerate(zoo.ROWS)}

    def order(item):
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        return place.get(row, -1) if "laws" in item.path.parts else -1

    items.sort(key=order)  # the sort is stable: everything else keeps its place

"""The fixture `row` of all laws, and the order in which the laws run: row after row.

A row's laws run one after the other, in whichever file they stand, because they share compiled programs.
`make laws` runs every law on every row. A test run takes a share of the rows, another one for each law,
because recipes are made of parts that have rows themselves. What `ROWS` in the environment says:

- `all`: every law on every row; laws marked `representatives` compile, and run on `zoo.REPRESENTATIVES`;
- nothing: on a third of the recipes that only compose, and laws that compile on a third of their rows;
- `few`: on a third of all rows, and laws that compile on `zoo.FEW`, for another version of JAX.
"""

import os
import zlib

import pytest
import zoo


def pytest_configure(config):
    for line in (
        "representatives: a law that compiles; for rows that are not recipes, and for a few recipes",
        "others: a law for all rows that are not representatives",
    ):
        config.addinivalue_line("markers", line)


def share(rows, law, part):
    """One row of `part` rows, beginning with another one for each law."""
    first = zlib.crc32(law.encode()) % part
    return rows[first::part]


def rows_of(law, marker):
    """The rows that a law runs on in this run."""
    run = os.environ.get("ROWS", "")
    if marker == "representatives":
        if run == "few":
            return zoo.FEW
        return zoo.REPRESENTATIVES if run == "all" else share(zoo.REPRESENTATIVES, law, 3)
    if marker == "others":
        return zoo.OTHERS if run == "all" else share(zoo.OTHERS, law, 3)
    if run == "few":
        return share(zoo.ROWS, law, 3)
    return zoo.ROWS if run == "all" else [*zoo.REPRESENTATIVES, *share(zoo.OTHERS, law, 3)]


def pytest_generate_tests(metafunc):
    of_its_own = any(
        "row" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "row" in metafunc.fixturenames and not of_its_own:
        markers = {mark.name for mark in metafunc.definition.iter_markers()}
        (marker,) = markers & {"representatives", "others"} or {""}
        metafunc.parametrize("row", rows_of(metafunc.definition.name, marker), ids=str)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    place = {row: i for i, row in enumerate(zoo.ROWS)}

    def order(item):
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        return place.get(row, -1) if "laws" in item.path.parts else -1

    items.sort(key=order)  # the sort is stable: everything else keeps its place

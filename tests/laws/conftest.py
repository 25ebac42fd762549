"""The fixture `row` of all laws, and the order in which the laws run: row after row.

A row's laws run one after the other, in whichever file they stand, because they share compiled programs.
A law that is marked `@pytest.mark.representatives` runs only on the rows in `zoo.REPRESENTATIVES`, and
with `ROWS=few` in the environment only on the rows in `zoo.FEW`, as on another version of JAX.
For these laws it has to compile, and the other laws trace every row.
"""

import os

import pytest
import zoo


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "representatives: run this law on every row that is not a recipe, and on a few recipes",
    )


def pytest_generate_tests(metafunc):
    of_its_own = any(
        "row" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "row" in metafunc.fixturenames and not of_its_own:
        few = metafunc.definition.get_closest_marker("representatives")
        fewest = zoo.FEW if os.environ.get("ROWS") == "few" else zoo.REPRESENTATIVES
        metafunc.parametrize("row", fewest if few else zoo.ROWS, ids=str)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    place = {row: i for i, row in enumerate(zoo.ROWS)}

    def order(item):
        row = item.callspec.params.get("row") if hasattr(item, "callspec") else None
        return place.get(row, -1) if "laws" in item.path.parts else -1

    items.sort(key=order)  # the sort is stable: everything else keeps its place

"""The table of all optimizers in the documentation, which a script makes from the classes."""

import re
import sys
from pathlib import Path

import pytest

import gradtx

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "_ext"))
table = pytest.importorskip("optimizer_table")  # it needs Sphinx

NAMES = sorted(table.concepts()["Optimizers"])


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_names_its_source_and_its_composition_can_be_read(name):
    source = table.source_of(getattr(gradtx, name))
    assert table.YEAR.search(source), f"no year in the source of {name}: {source!r}"
    tx = table.made(name)
    shown = tx.expand() if isinstance(tx, gradtx.Recipe) else tx
    assert gradtx.parse(repr(shown)) == shown
    assert table.parts_of(tx)


def test_the_bytes_of_the_state_are_those_of_the_compiled_program():
    sizes = {
        "sgd": 0,
        "lion": 4,
        "novograd": 4,
        "adamw": 8,
        "stableadamw": 8,
        "adopt": 8,
        "mars": 12,
    }
    for name, size in sizes.items():
        assert table.state_bytes(table.made(name)) == pytest.approx(size, abs=0.01), name


def test_the_table_says_of_every_optimizer_what_it_is_good_for():
    assert set(table.GOOD_FOR) == {*NAMES}


def test_an_optimizer_has_a_primitive_of_its_own_if_no_other_code_names_it():
    own = table.own_primitives(NAMES)
    assert own["yogi"] == ["yogi_moment"] and own["psgd_kron"] == ["fitted_whitening"]
    # `rmnp` shares its rows with an option of `muon`, and `soap` its basis with `kl_soap`.
    assert not {"adam", "rmnp", "soap", "lion"} & set(own)
    assert len(own) <= len(NAMES) / 4


def test_the_page_on_conventions_gives_a_reason_for_every_primitive_of_one_optimizer():
    page = (Path(__file__).parents[2] / "docs" / "conventions.md").read_text()
    listed = {}
    for row in page.partition("a part exist that only one recipe uses?")[2].splitlines():
        parts, recipes = [re.findall(r"`(\w+)", x) for x in row.split("|")[1:3]] or ([], [])
        listed |= dict.fromkeys(parts, recipes)
    own = {part: name for name, x in table.own_primitives(NAMES).items() for part in x}
    assert all(own[part] in listed[part] for part in own)
    primitives = [x for x in listed if not issubclass(getattr(gradtx, x), gradtx.Schedule)]
    assert {x for x in primitives if listed[x]} == {*own}


def test_a_row_of_the_table_has_the_year_the_parts_the_source_and_the_composition():
    row = table.row_of("lion")
    assert row.year == "2023"
    assert set(row.parts) >= {"scale_by_momentum", "scale_by_sign", "scale_by_learning_rate"}
    text = table.rst([row])
    assert "arXiv:2302.06675" in text
    assert row.composition in text

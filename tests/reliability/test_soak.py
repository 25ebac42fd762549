"""`make soak`: a short run of it, and the table of all recipes on the page."""

import jax.numpy as jnp
import pytest

from benchmarks import pages, soak
from benchmarks.recipes import RECIPES


def test_a_short_soak_passes_for_one_recipe(capsys):
    soak.main(["adam", "--steps", "200"])
    head, _, row = capsys.readouterr().out.splitlines()
    assert [x.strip() for x in head.split("|")[1:-1]] == soak.HEAD
    assert row.startswith("| `adam` | 2 |")
    assert all(float(x) < 1e-4 for x in row.split("|")[3:7])


def test_the_page_has_a_row_of_numbers_for_every_recipe():
    rows = pages.rows_of("soak")
    assert list(rows) == list(RECIPES)
    assert pages.line(soak.HEAD) in pages.PAGE.read_text()
    for name, (_, count, *drifts) in rows.items():
        assert int(count) >= 0 and all(0 <= float(x) < 10 for x in drifts if x != "–"), name
        assert drifts[0] != "–" and drifts[2] != "–", name


def test_a_recipe_that_fails_has_its_error_in_its_row_and_the_others_go_on(monkeypatch, capsys):
    def soaked(name, steps, advance):
        if name == "adam":
            raise AssertionError("the counters are wrong")
        return [f"`{name}`", "1", *4 * ["0e+00"]]

    monkeypatch.setattr(soak, "soak", soaked)
    with pytest.raises(SystemExit) as error:
        soak.main(["adam", "sgd", "--steps", "200"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert error.value.code == 1
    assert rows[0].startswith("| `adam` | the counters are wrong |")
    assert rows[1].startswith("| `sgd` | 1 |")


def test_a_row_that_is_measured_again_replaces_its_old_one_alone(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- soak: begin -->\n\n| a |\n| --- |\n<!-- soak: end -->\nafter\n")
    monkeypatch.setattr(pages, "PAGE", page)
    for row in (["`sgd(0.1)`", "1"], ["`adam`", "2"], ["`sgd(0.2)`", "3"]):
        pages.update("soak", ["Recipe", "x"], [row], ["adam", "sgd"])
    assert pages.rows_of("soak") == {"adam": ["`adam`", "2"], "sgd": ["`sgd(0.2)`", "3"]}
    assert page.read_text().startswith("before\n") and page.read_text().endswith("\nafter\n")


def test_a_soak_finds_what_is_wrong():
    with pytest.raises(AssertionError, match="`a/b` is not finite after 7 steps"):
        soak.check_finite("x", {"a": {"b": jnp.array([1.0, jnp.inf])}}, 7)
    with pytest.raises(AssertionError, match=r"counters are \[3\] after 4 steps"):
        soak.check_counters("x", {"count": jnp.int32(3)}, 4)

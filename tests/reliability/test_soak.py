"""`make soak`: a short run of it, and whether it takes every recipe."""

import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from benchmarks import soak
from benchmarks.recipes import IN_TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()


def test_a_short_soak_passes_for_one_recipe_and_the_table_has_the_recipes_that_it_names(capsys):
    (table,) = re.findall(r"^\| Recipe \| Counters .*\n(?:\|.*\n)*", PAGE, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(IN_TABLES)
    soak.main(["adam", "--steps", "200"])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head == table.splitlines()[0] and row.startswith("| `adam` | 2 |")
    assert all(float(x) < 1e-4 for x in row.split("|")[3:5])


def test_a_soak_finds_what_is_wrong():
    with pytest.raises(AssertionError, match="`a/b` is not finite after 7 steps"):
        soak.check_finite("x", {"a": {"b": jnp.array([1.0, jnp.inf])}}, 7)
    with pytest.raises(AssertionError, match=r"counters are \[3\] after 4 steps"):
        soak.check_counters("x", {"count": jnp.int32(3)}, 4)

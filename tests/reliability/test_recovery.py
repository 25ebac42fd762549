"""The time to recover from one huge gradient: the script against closed forms, and the page."""

import math
import re

import pytest

from benchmarks import pages, recovery
from benchmarks.recipes import RATE, RECIPES

TEXT = pages.PAGE.read_text()
ROWS = pages.rows_of("recovery")


def steps_of(cell):
    """The number of steps in a cell, which is infinite for more steps than were taken."""
    return math.inf if cell.startswith("more") else int(cell.replace(",", ""))


def on_the_page(name):
    """The size of the huge step and the steps to recover, as the page has them."""
    return float(ROWS[name][1]), steps_of(ROWS[name][2])


def test_the_times_to_recover_are_those_of_the_closed_forms_and_of_the_page():
    size, steps = recovery.measured("sgd")
    # The momentum keeps 0.9 of the excess in every step.
    assert steps is not None and abs(steps - math.log(size / 0.1) / -math.log(0.9)) <= 1
    assert on_the_page("sgd") == (float(f"{size:.1g}"), steps)
    _, steps = recovery.measured("adam")
    # The second moment keeps 0.999 of 0.001 times the square of the largest number that is
    # squared, 2**62 to 2**63. It has to fall to a part of the squares of a usual gradient, whose
    # entries are 0.1 to 1.3.
    excess = [0.001 * 4.0**62 / 1.3**2, 0.001 * 4.0**63 / (0.1 * 0.1**2)]
    low, high = (math.log(x) / -math.log(0.999) for x in excess)
    assert steps is not None and low < steps < high
    assert steps == pytest.approx(on_the_page("adam")[1], rel=0.01)


def test_skipping_spikes_recovers_at_once():
    _, steps = recovery.measured("sgd", "`skip_spikes` around it")
    assert steps == 1


@pytest.mark.parametrize("remedy", recovery.OTHER_REMEDIES)
def test_a_clip_that_finds_its_bound_itself_recovers_as_fast_as_the_page_says(remedy):
    """All gradients before the huge one are equal, so their norms do not deviate from the average."""
    _, steps = recovery.measured("adam", remedy)
    (said,) = re.findall(r"recovers after\s+(\d+) steps:", TEXT)
    assert steps is not None and abs(steps - int(said)) <= 1


@pytest.mark.parametrize("name", ["lars", "rprop", "apollo", "rmnp"])
def test_a_row_of_the_page_is_what_the_script_measures(name):
    (_, *said), (_, *found) = ROWS[name], recovery.row(name)
    assert float(said[0]) == pytest.approx(float(found[0]), rel=0.1)
    for old, new in zip(said[1:], found[1:], strict=True):
        assert steps_of(new) == pytest.approx(steps_of(old), rel=0.02, abs=1)


def test_the_page_has_a_row_for_every_recipe():
    assert list(ROWS) == list(RECIPES) and pages.line(recovery.HEAD) in TEXT
    for name, row in ROWS.items():
        assert row[0] == f"`{recovery.MAKE[name](RATE)}`"
        assert not math.isnan(float(row[1])), name
        assert all(steps_of(cell) >= 1 for cell in row[2:]), name

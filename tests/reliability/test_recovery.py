"""The time to recover from one huge gradient: the script against closed forms, and the page."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import recovery

PAGE = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text()


def on_the_page(name):
    """The size of the huge step and the steps to recover, as the page has them."""
    (found,) = re.findall(rf"^\| `{name}\([^`]*\)` \| (\S+) \| ([\d,]+) \|", PAGE, re.MULTILINE)
    return float(found[0]), int(found[1].replace(",", ""))


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
    (said,) = re.findall(r"recovers after\s+(\d+) steps:", PAGE)
    assert steps is not None and abs(steps - int(said)) <= 1


def test_the_page_has_a_row_for_every_recipe_that_the_script_prints_by_itself():
    (table,) = re.findall(r"^\| Recipe \| Size .*\n(?:\|.*\n)*", PAGE, re.MULTILINE)
    rows = np.array([line.split("|")[1:-1] for line in table.splitlines()[2:]])
    assert [x.strip(" `").partition("(")[0] for x in rows[:, 0]] == list(recovery.ON_THE_PAGE)

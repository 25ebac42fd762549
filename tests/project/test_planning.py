"""The page on planning shows the committed figures, and these reach the goals for Muon."""

import json

import numpy as np
import pytest

import gradtx
from benchmarks import planning
from benchmarks.models import RATE

FOUND = json.loads(planning.FOUND.read_text())
CASES = FOUND["cases"]
LAYOUTS = [f"{model}/{devices}" for model in planning.MODELS for devices in planning.MESHES]


def test_the_table_on_the_page_is_made_from_the_committed_figures():
    page = planning.PAGE.read_text()
    shown = page[page.index(planning.BEGIN) + len(planning.BEGIN) : page.index(planning.END)]
    assert shown.strip() == planning.table(FOUND)
    assert {*CASES} == {f"{layout}/{name}" for layout in LAYOUTS for name in planning.OPTIMIZERS}


def test_muon_for_8b_on_64_devices_compiles_quickly_and_sends_what_it_must():
    muon = CASES["8B/64/gradtx.muon"]
    assert muon["compile_seconds"] <= 30
    assert muon["large_operations"] <= 10
    assert muon["sent"] <= 1.3e9


def test_muon_for_8b_on_64_devices_takes_few_large_collectives():
    """Two for each of four shapes of matrices. What is sent is 0.87 GB of matrices, and padding."""
    found = gradtx.plan(gradtx.muon(RATE), planning.sharded("8B", 64))
    large = [x for x in found.traffic if x.bytes > 2**20]
    assert {x.kind for x in large} == {"all-to-all"}
    assert sum(x.runs for x in large) == 8
    assert found.sent_bytes <= 1.3e9
    # The figures on the page are still those of this program.
    muon = CASES["8B/64/gradtx.muon"]
    assert muon["large_operations"] == 8
    np.testing.assert_allclose(muon["sent"], found.sent_bytes, rtol=0.01)
    np.testing.assert_allclose(muon["flops"], found.flops, rtol=0.01)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_adamw_sends_nothing_and_muon_less_than_a_tenth_of_optax(layout):
    adamw, ours, theirs = (CASES[f"{layout}/{name}"] for name in sorted(planning.OPTIMIZERS))
    assert adamw["operations"] == 0
    assert ours["sent"] <= theirs["sent"] / 10 and ours["flops"] <= theirs["flops"]

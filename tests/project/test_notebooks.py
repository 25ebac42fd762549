"""Every notebook runs end to end, small, draws its figures, and its own checks hold."""

import runpy
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_end_to_end_draws_its_figures_and_its_checks_hold(notebook, monkeypatch):
    monkeypatch.setenv("GRADTX_SMALL", "1")
    monkeypatch.chdir(notebook.parent)  # where Jupyter runs it
    monkeypatch.setattr(sys, "path", [*sys.path])  # a notebook may add to it
    with matplotlib.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        try:
            names = runpy.run_path(str(notebook), run_name="__main__")
            figures = [plt.figure(number) for number in plt.get_fignums()]
            for figure in figures:
                figure.canvas.draw()  # as Jupyter would: only now are formulas in labels read
        finally:
            plt.close("all")
    assert figures
    assert names["checks"] and all(names["checks"].values())

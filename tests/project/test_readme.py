"""What the README shows runs, and prints what it says."""

import contextlib
import importlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
AFTER = "# after training\n"
# A block of Python, and what it prints where a block of text follows directly.
BLOCK = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


def section(match):
    """The heading above a block, for the name of its test."""
    return re.findall(r"^## (.*)", README[: match.start()], re.MULTILINE)[-1]


BLOCKS = list(BLOCK.finditer(README))
TRAIN = next(match for match in BLOCKS if section(match) == "Train a model")


def run(match, namespace):
    """Run a block; lines are counted from the top of the file, so that an error points there."""
    line = README.count("\n", 0, match.start(1))
    code = compile("\n" * line + match[1], "README.md", "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, namespace)
    return printed.getvalue()


@pytest.mark.parametrize("match", BLOCKS, ids=section)
def test_a_block_runs_and_prints_what_it_says(match):
    namespace = {"__name__": "readme"}
    if match[1].startswith(AFTER):
        run(TRAIN, namespace)
    printed = run(match, namespace)
    if match[2] is not None:
        assert printed == match[2]


def test_the_adam_of_the_readme_is_adam():
    import jax.numpy as jnp

    import gradtx

    namespace = {}
    run(next(match for match in BLOCKS if "equation" in section(match)), namespace)
    ours, named, grads = namespace["adam"], gradtx.adam(1e-3), jnp.array([1e-3, -2.0, 0.0])
    states = [tx.init(grads) for tx in (ours, named)]
    for _ in range(3):
        steps = [tx.update(grads, s) for tx, s in zip((ours, named), states, strict=True)]
        (a, b), states = zip(*steps, strict=True)
        assert (a == b).all()


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)", prose, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def test_files_and_commands_that_the_readme_names_exist():
    for link in re.findall(r"\]\(([^)]*)\)", README):
        if not link.startswith("https:"):
            path, _, anchor = link.partition("#")
            page = ROOT / (path or "README.md")
            assert page.exists(), link
            assert not anchor or anchor in anchors(page), link
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE):
        assert command in targets, command


def test_the_table_names_every_racer(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    race = importlib.import_module("examples.race")

    table = README[README.index("optimizer    rate") : README.index("![")]
    assert sorted(re.findall(r"^  (\w+) +[\d.]+ ", table, re.MULTILINE)) == sorted(race.RACERS)

"""What the documentation says that code can check: its blocks run, and what it names is there."""

import inspect
import re
from pathlib import Path

import language
import pytest
from public import PUBLIC

import gradtx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and text of every block of Python."""
    text = page.read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: p.stem)
def test_a_pages_blocks_run_from_top_to_bottom(page):
    namespace = {"__name__": page.stem}
    for line, block in blocks(page):
        # Lines are counted from the top of the page, so that an error points there.
        exec(compile("\n" * line + block, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", ["numbers.md", "mixed_precision.md"])
def test_every_test_that_a_page_of_guarantees_names_exists(page):
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (DOCS / page).read_text())
    assert named
    for file, name in named:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_every_concept_of_the_public_face_has_its_page_and_every_name_a_concept():
    face = Path(gradtx.__file__).with_suffix(".pyi").read_text()
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    first, *concepts = re.split(r"^# (.*)\n", face, flags=re.MULTILINE)
    assert "\nfrom " not in first
    for concept in concepts[::2]:
        assert f".. concept:: {concept}\n" in pages, concept


BASES = (gradtx.Transform, gradtx.Recipe, gradtx.Elementwise, gradtx.Matrixwise)
BASES += (gradtx.Wrapper, gradtx.Moment)
TRANSFORMS = {
    name: x
    for name, x in PUBLIC.items()
    if inspect.isclass(x) and issubclass(x, gradtx.Transform) and x not in BASES
}
# Which leaves an update is for is said in words.
WITHOUT_EQUATION = {"foreign", "masked", "partition", "multi_transform", "tunable"}
WITHOUT_EQUATION |= {"every", "skip_nonfinite"}
WITHOUT_ERROR = {"identity", "scale_by_sign", "normalize", "zero_nans"}
WITHOUT_ERROR |= {"block_norm", "difference", "absolute"}
# Composition and plain arithmetic.
WITHOUT_SOURCE = WITHOUT_EQUATION | {"chain", "fanout", "identity", "constant", "root", "clip"}
WITHOUT_SOURCE |= {"named_chain", "stateless", "stateless_with_tree_map"}
WITHOUT_SOURCE |= {"freeze", "set_to_zero", "scale", "scale_by_schedule", "tap", "observe"}
# Each of its modes names a source.
WITHOUT_SOURCE |= {"scale_by_shape", "scale_by_path"}
WITHOUT_SOURCE |= {"accumulate", "skip_spikes"}  # a mean, and a bound on deviations
WITHOUT_SOURCE |= {"delayed", "once", "parameters", "absolute", "scale_to_operator_norm"}
WITHOUT_SOURCE |= {"zero_nans", "keep_params_nonnegative"}  # a bound on updates


def report(found):
    """Findings as the message of an assertion: file, line and remedy, one a line."""
    return f"{len(found)} findings\n" + "\n".join(map(str, found))


def test_public_docstrings_have_a_first_sentence_and_one_entry_per_argument():
    found = language.docstrings_in()
    assert not found, report(found)


def test_nothing_that_people_read_contains_a_pattern_that_needs_a_second_reading():
    found = language.patterns_in()
    assert not found, report(found)


@pytest.mark.parametrize("pattern", language.PATTERNS, ids=lambda p: p.remedy)
def test_a_pattern_is_found_in_its_bad_sample_and_not_in_its_good_one(pattern):
    # Wrapped behind every word, as a docstring may be.
    for text in (pattern.bad, pattern.bad.replace(" ", "\n    ")):
        assert pattern.remedy in [x.remedy for x in language.findings(text)]
    assert not [*language.findings(pattern.good)]


def test_patterns_are_found_in_docstrings_comments_messages_and_pages(tmp_path):
    python = '''"""Fine.

    What it is not is
    no number.
    """
x = f"{y!r} is no " "rule."  # this is no number, but `is no` code
# A comment of two lines is
# no number.
'''
    page = "# What it is for\n\nA `thing is no` name.\n\n"
    page += "```python\n# It is no name.\n```\n- is no list\n"
    for name, text, lines in (
        ("x.py", python, [3, 6, 6, 7]),
        ("x.md", page, [1, 6, 8]),
    ):
        path = tmp_path / name
        path.write_text(text)
        found = [f for line, t in language.texts(path) for f in language.findings(t, name, line)]
        assert sorted(f.line for f in found) == lines, report(found)


GOOD = """Scale by a factor, $u = c\\, g$. \n
    Args:
        step: the factor; a schedule
            of steps, too.
        nesterov: whether to look ahead.

    Raises:
        ValueError: if the factor is negative.

    Source: a paper, 2014.
    """


@pytest.mark.parametrize(
    ("good", "bad", "remedy"),
    [
        ("$.", "$", "period"),
        ("$.", "$. A second sentence.", "one sentence"),
        ("Scale", "Scale\n    very\n    long", "one line"),
        ("step: the", "step, nesterov: the", "in this order"),
        ("step: the", "steps: the", "in this order"),
        ("        nesterov: whether to look ahead.\n", "", "in this order"),
        ("nesterov: whether", "other: whatever.\n        nesterov: whether", "in this order"),
        ("Args", "Arguments", "`Args:`"),
        ("ValueError:", "ValueError, TypeError:", "each kind of error"),
        ("Raises:\n        ValueError: if", "Raises `ValueError` if", "section `Raises:`"),
        ("\n\n    Source", " Source", "new paragraph"),
    ],
)
def test_the_shape_of_a_docstring_is_checked(good, bad, remedy):
    assert not [*language.in_docstring(GOOD, ["step", "nesterov"])]
    assert good in GOOD
    (wrong,) = language.in_docstring(GOOD.replace(good, bad), ["step", "nesterov"])
    assert remedy in wrong


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformations_docstring_gives_its_equation_its_errors_and_its_source(name):
    text = inspect.getdoc(TRANSFORMS[name])
    assert ("$" in text) != (name in WITHOUT_EQUATION)
    assert ("Raises" in language.sections(text)) != (name in WITHOUT_ERROR)
    assert bool(re.search(r"^Sources?: .*?\b\d{4}\b", text, re.M | re.S)) != (
        name in WITHOUT_SOURCE
    )


def test_every_optimizer_has_a_doctest():
    optimizers = {k: x for k, x in TRANSFORMS.items() if "optimizers" in x.__module__}
    assert len(optimizers) > 10
    assert not [name for name, x in optimizers.items() if ">>>" not in inspect.getdoc(x)]

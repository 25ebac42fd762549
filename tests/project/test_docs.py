"""What the documentation says that code can check: its blocks run, and what it names is there."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

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


def test_every_test_that_the_page_on_numbers_names_exists():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (DOCS / "numbers.md").read_text())
    assert named
    for file, name in named:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {name}(" in path.read_text(), f"{file}::{name}"


def test_every_concept_of_the_public_face_has_its_page_and_every_name_a_concept():
    face = Path(gradtx.__file__).read_text()
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    first, *concepts = re.split(r"^# (.*)\n", face, flags=re.MULTILINE)
    assert "import" not in first
    for concept in concepts[::2]:
        assert f".. concept:: {concept}\n" in pages, concept


PUBLIC = {name: x for name, x in vars(gradtx).items() if not name.startswith("_")}
BASES = (gradtx.Transform, gradtx.Recipe, gradtx.Elementwise, gradtx.Matrixwise)
BASES += (gradtx.Wrapper, gradtx.Moment)
TRANSFORMS = {
    name: x
    for name, x in PUBLIC.items()
    if inspect.isclass(x) and issubclass(x, gradtx.Transform) and x not in BASES
}
# Which leaves an update is for is said in words.
WITHOUT_EQUATION = {"foreign", "masked", "partition"}
WITHOUT_ERROR = {"foreign", "scale_by_sign"}
# Composition and plain arithmetic.
WITHOUT_SOURCE = WITHOUT_EQUATION | {"chain", "fanout", "identity", "constant", "root", "clip"}
WITHOUT_SOURCE |= {"freeze", "set_to_zero", "scale", "scale_by_schedule"}


def arguments(x):
    if inspect.isclass(x) and dataclasses.is_dataclass(x):
        return [field.name for field in dataclasses.fields(x)]
    return list(inspect.signature(x).parameters) if inspect.isfunction(x) else []


@pytest.mark.parametrize("name", [name for name, x in PUBLIC.items() if callable(x)])
def test_a_docstring_names_every_argument(name):
    text = inspect.getdoc(PUBLIC[name])
    missing = [a for a in arguments(PUBLIC[name]) if not re.search(rf"\b{a}\b", text)]
    assert not missing


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformations_docstring_gives_its_equation_its_errors_and_its_source(name):
    text = inspect.getdoc(TRANSFORMS[name])
    assert ("$" in text) != (name in WITHOUT_EQUATION)
    assert bool(re.search("[Rr]aises|`ValueError`", text)) != (name in WITHOUT_ERROR)
    assert bool(re.search(r"[^a-z]\d{4}[^\d]", text)) != (name in WITHOUT_SOURCE)


def test_every_optimizer_has_a_doctest():
    optimizers = {k: x for k, x in TRANSFORMS.items() if "optimizers" in x.__module__}
    assert len(optimizers) > 10
    assert not [name for name, x in optimizers.items() if ">>>" not in inspect.getdoc(x)]

"""What the documentation says that code can check: its blocks run, and what it names is there."""

import re
from pathlib import Path

import pytest

import gradtx

ROOT = Path(__file__).parent.parent
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
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_every_concept_of_the_public_face_has_its_page_and_every_name_a_concept():
    face = Path(gradtx.__file__).read_text()
    pages = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    first, *concepts = re.split(r"^# (.*)\n", face, flags=re.MULTILINE)
    assert "import" not in first
    for concept in concepts[::2]:
        assert f".. concept:: {concept}\n" in pages, concept

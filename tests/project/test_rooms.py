"""The rooms of the package: arrows between folders point one way, and no file stands in a circle.

The imports are read from the sources, inside functions and under `TYPE_CHECKING` too where they make an
arrow that runs; what only a type checker reads is left out.
"""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "gradtx"
# A folder may import from those before it; the last two, and the face, from all transformations.
ORDER = (
    "_core",
    "_compose",
    "_schedules",
    "_transforms",
    "_matrices",
    "_bases",
    "_wrappers",
    "_optimizers",
    "_training",
    "_show",
)
# `_text` reads the vocabulary off the face, and nothing else does.
USES_THE_FACE = {"_text"}


@functools.cache
def imports(source):
    """The modules of gradtx that a source imports when it runs."""
    found = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node):
            if "TYPE_CHECKING" in ast.unparse(node.test):
                for child in node.orelse:
                    self.visit(child)
            else:
                self.generic_visit(node)

        def visit_ImportFrom(self, node):
            if node.module == "gradtx":
                found.update(f"gradtx.{alias.name}" for alias in node.names)
            elif node.module and node.module.startswith("gradtx."):
                # `from gradtx._core import boundary` names a module, too.
                inside = (f"{node.module}.{alias.name}" for alias in node.names)
                found.update(m if is_module(m) else node.module for m in inside)

        def visit_Import(self, node):
            found.update(a.name for a in node.names if a.name.split(".")[0] == "gradtx")

    Visitor().visit(ast.parse(source))
    return found


def is_module(name):
    return (PACKAGE.parent / Path(*name.split("."))).with_suffix(".py").exists()


def graph():
    """For every file of the package, by its dotted name, the modules that it imports."""
    files = {
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p
        for p in PACKAGE.rglob("*.py")
    }
    return {name: imports(path.read_text()) for name, path in files.items()}


def room(module):
    part = module.split(".")[1:2]
    return part[0] if part and part[0].startswith("_") and part != ["__init__"] else "face"


def turned(edges):
    """The arrows that point against the order."""
    wrong = []
    for name, targets in edges.items():
        here = room(name)
        for target in targets:
            there = room(target)
            if here == "face" or here == there:
                continue
            if there == "face":
                wrong += [] if here in USES_THE_FACE else [(name, target)]
            elif here in ORDER and (there not in ORDER or ORDER.index(there) > ORDER.index(here)):
                wrong.append((name, target))
    return wrong


def circles(edges):
    """The files that can be reached from themselves."""

    def reached(start):
        seen, waiting = set(), list(edges[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += edges.get(name, ())
        return seen

    return [name for name in edges if name in reached(name)]


def test_arrows_between_rooms_point_one_way():
    assert turned(graph()) == []


def test_no_file_stands_in_a_circle():
    edges = {name: {t for t in targets if t != "gradtx"} for name, targets in graph().items()}
    assert circles(edges) == []


def test_every_folder_is_in_the_order():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms == {*ORDER, *USES_THE_FACE}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gradtx._core.trees", "from gradtx._show.summary import summarize"),
        ("gradtx._transforms.scale", "def f():\n    from gradtx._optimizers.adam import adam"),
        ("gradtx._optimizers.sgd", "import gradtx._training.edit"),
        ("gradtx._wrappers.cautious", "from gradtx import adam"),
    ],
)
def test_a_turned_arrow_is_found(name, line):
    edges = graph()
    edges[name] = edges[name] | imports(line)
    assert [wrong[0] for wrong in turned(edges)] == [name]


def test_a_circle_is_found():
    edges = graph()
    edges["gradtx._core.trees"] = {"gradtx._core.program"}
    assert "gradtx._core.trees" in circles(edges)


def test_files_hold_one_concept():
    lengths = {
        str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 250} == {}

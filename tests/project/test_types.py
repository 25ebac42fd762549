"""What a type checker and an editor see of the library: wrong calls, right calls, and signatures.

One process of the checker looks at three files, since half of its time goes into reading JAX and Optax.
"""

import inspect
import json
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import right_calls
from public import PUBLIC

import gradtx

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
WRONG, RIGHT = HERE / "wrong_calls.py", HERE / "right_calls.py"
# Base classes are not called, and an alias of types has no signature.
CALLED = [name for name, x in PUBLIC.items() if name[0].islower() and callable(x)]
CALLED += ["MatrixAxes"]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
AS_FUNCTION = """
from collections.abc import Callable
from typing import ParamSpec, TypeVar
import gradtx
P = ParamSpec("P")
T = TypeVar("T")
def as_function(f: Callable[P, T]) -> Callable[P, T]: ...
"""


def check(*files: Path) -> list[dict[str, Any]]:
    """What basedpyright says of these files."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"]
    run = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return json.loads(run.stdout)["generalDiagnostics"]


def refused(diagnostics: list[dict[str, Any]], file: Path) -> dict[int, set[str]]:
    """The rules that each line of a file violates, by the number of the line."""
    lines: dict[int, set[str]] = {}
    for x in diagnostics:
        if x["severity"] == "error" and Path(x["file"]) == file:
            lines.setdefault(x["range"]["start"]["line"] + 1, set()).add(x.get("rule", ""))
    return lines


def expected(file: Path) -> dict[int, set[str]]:
    """The rules in the comments at the ends of the lines of a file."""
    rules = (re.search(r"  # (report\w+)$", line) for line in file.read_text().splitlines())
    return {i: {rule[1]} for i, rule in enumerate(rules, 1) if rule}


def test_the_checker_refuses_wrong_calls_accepts_right_ones_and_sees_every_signature(tmp_path):
    # What an editor shows at the opening parenthesis is the type of the constructor as a function.
    shown = tmp_path / "signatures.py"
    lines = [f"reveal_type(as_function(gradtx.{name}))" for name in CALLED]
    shown.write_text("\n".join([AS_FUNCTION, *lines]))
    diagnostics = check(WRONG, RIGHT, shown)

    wanted = expected(WRONG)
    assert len(wanted) > 320
    assert refused(diagnostics, WRONG) == wanted
    assert refused(diagnostics, RIGHT) == {}

    types = {
        x["range"]["start"]["line"] - AS_FUNCTION.count("\n") - 1: x["message"]
        for x in diagnostics
        if Path(x["file"]) == shown and x["severity"] == "information"
    }
    for i, name in enumerate(CALLED):
        seen = types[i].partition(" is ")[2]
        assert "Unknown" not in seen, seen
        parameters = inspect.signature(PUBLIC[name]).parameters.values()
        places = {p: re.search(rf"[(, *]{p.name}[:,)]", seen) for p in parameters}
        assert all(places.values()), (name, seen)
        # Arguments that are passed by name alone may be listed in any order.
        starts = [x.start() for p, x in places.items() if x and p.kind is not p.KEYWORD_ONLY]
        assert starts == sorted(starts), (name, seen)


@pytest.mark.parametrize("function", right_calls.ARGUMENTS, ids=lambda f: f.__name__)
def test_right_calls_are_right_when_they_run(function):
    function(*right_calls.ARGUMENTS[function])


def test_every_public_name_has_a_text_and_every_argument_an_annotation():
    for name in PUBLIC.keys() - {"Hyper"}:
        x = PUBLIC[name]
        assert inspect.getdoc(x), name
        members = inspect.getmembers(x, inspect.isfunction) if inspect.isclass(x) else [(name, x)]
        for member, function in members:
            if not member.startswith("_") and function.__module__.startswith("gradtx."):
                arguments = {*inspect.signature(function).parameters} - {"self", "cls"}
                assert {*typing.get_type_hints(function)} == arguments | {"return"}, (name, member)
        if inspect.isclass(x) and issubclass(x, gradtx.Value):
            taken = {p.name for p in inspect.signature(x).parameters.values() if p.kind in NAMED}
            assert taken <= {*typing.get_type_hints(x)}, name

"""What users and their checkpoints rely on: public names, signatures, conventions, layouts of states.

All of that stands in `public_face.txt`, and this test fails when it changes. Whoever means the change
announces it with an entry in `CHANGELOG.md`, and writes the file anew:

    REWRITE=1 python -m pytest tests/project/test_public_face.py

Annotations are left out, since each Python prints them in its own way; the test of the types holds them.
"""

import ast
import difflib
import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import pytest
import zoo

import gradtx
from gradtx._core.static import show

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).with_name("public_face.txt")
COMMAND = f"REWRITE=1 python -m pytest {Path(__file__).relative_to(ROOT).as_posix()}"
HEADER = f"""\
The public face of gradtx: names, signatures, conventions, and the layouts of states. Written by
`{COMMAND}`.
Every change of this file has an entry in CHANGELOG.md.
"""
NAMES = sorted(name for name in dir(gradtx) if not name.startswith("_"))


def documented_methods():
    """The methods that a user calls or overrides, as the documentation lists them."""
    for node in ast.walk(ast.parse((ROOT / "docs" / "_ext" / "face.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHODS":
            return {k: v.split(", ") for k, v in ast.literal_eval(node.value).items()}
    raise AssertionError("docs/_ext/face.py has no table METHODS")


def signature(function):
    """The parameters with their kinds and defaults; of a method without `self`."""
    given = inspect.signature(function)
    plain = []
    for x in given.parameters.values():
        default = x.default if x.default is x.empty else _Shown(x.default)
        if x.name != "self":
            plain.append(x.replace(annotation=x.empty, default=default))
    return str(given.replace(parameters=plain, return_annotation=given.empty))


class _Shown:
    """A default that prints in the same way in every version of Python."""

    def __init__(self, value):
        self._text = show(value)

    def __repr__(self):
        return self._text


def described(name):
    """The lines about a public name."""
    x = getattr(gradtx, name)
    if name == "Hyper":  # an alias of types, which has no signature
        return [name]
    bases = (base.__name__ for base in getattr(x, "__mro__", ())[1:])
    base = next((base for base in bases if base in NAMES), None)
    lines = [name + signature(x) + (f": {base}" if base else "")]
    for method in documented_methods().get(name, ()):
        lines.append(f"    .{method}{signature(getattr(x, method))}")
    for convention, defaults in sorted(getattr(x, "conventions", {}).items()):
        values = ", ".join(f"{k}={show(v)}" for k, v in sorted(defaults.items()))
        lines.append(f"    convention {convention!r}: {values or 'no difference'}")
    return lines


def shapes(tree):
    return jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)]


def parts(state):
    """What is inside a container, each part after its label, and what stands before and after them."""
    if isinstance(state, Mapping):
        return "{", [(f"{k}: ", state[k]) for k in sorted(state, key=str)], "}"
    if hasattr(state, "_fields"):
        inside = [(f"{name}=", getattr(state, name)) for name in state._fields]
        return f"{type(state).__name__}(", inside, ")"
    if state is None:  # for a parameter without this array
        return "None", [], ""
    assert type(state) is tuple, type(state)
    return "(", [("", x) for x in state], ")"


def layout(state, params, indent=""):
    """A state as classes, fields, and dtypes with shapes, in one line where it is short."""
    if isinstance(state, jax.ShapeDtypeStruct):
        return f"{state.dtype}{list(state.shape)}"
    # What is kept for each parameter is not spelled out once more.
    dtypes = {x.dtype for x in jax.tree.leaves(state)}
    if len(dtypes) == 1 and shapes(state) == shapes(params):
        return f"{dtypes.pop()} per parameter"
    before, inside, after = parts(state)
    line = before + ", ".join(label + layout(x, params) for label, x in inside) + after
    if len(indent + line) <= 100:
        return line
    deeper = indent + "    "
    lines = [f"{deeper}{label}{layout(x, params, deeper)}" for label, x in inside]
    return "\n".join([before, *lines, indent + after])


def layouts():
    """For each row of the zoo that is made of public classes: the code, and the layout of its state."""
    params = zoo.tree(shapes=zoo.SMALL)
    for row in sorted(zoo.ROWS, key=str):
        # Some rows are made of classes that a user would write.
        if set(re.findall(r"(\w+)\(", row.code)) <= set(NAMES):
            state = jax.eval_shape(row.make().init, params)
            yield row.code
            links = state if type(state) is tuple else [state]
            yield from ("    " + layout(x, params, "    ") for x in links)


def face():
    names = [line for name in NAMES for line in described(name)]
    params = ", ".join(f"{k}: {list(v)}" for k, v in sorted(zoo.SMALL.items()))
    states = [f"# States for the parameters {{{params}}}; of a chain, one entry per link", ""]
    return "\n".join([HEADER, "# Names", "", *names, "", *states, *layouts(), ""])


def test_the_public_face_changes_only_when_that_is_announced():
    new = face()
    if os.environ.get("REWRITE"):
        SNAPSHOT.write_text(new)
    old = SNAPSHOT.read_text()
    if old != new:
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), SNAPSHOT.name, "the code", lineterm="", n=2
        )
        # Not an `assert`, whose own explanation pytest would put in the place of this one.
        pytest.fail(
            "The public face has changed:\n\n"
            + "\n".join(lines)
            + "\n\nIf this is meant, add an entry to CHANGELOG.md under [Unreleased], which says what "
            f"changes for users, and write the file anew: `{COMMAND}`. Otherwise undo the change.",
            pytrace=False,
        )


def test_every_public_name_is_in_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [x for x in NAMES if not re.search(rf"`(gradtx\.)?{x}\b", text)] == []

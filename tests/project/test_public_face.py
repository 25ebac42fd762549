"""What users and their checkpoints rely on: public names, signatures, conventions, layouts of states.

All of that stands in `public_face.txt`, and this test fails when it changes. Whoever means the change
announces it with an entry in `CHANGELOG.md`, and writes the file anew:

    REWRITE=1 python -m pytest tests/project/test_public_face.py

The file is not written as long as a change of something that was released has no entry: a default, an
argument or a name that changed or went away, or another layout of a state.

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


def arguments(signature):
    """The arguments in a signature as the snapshot prints it: the text of each by its name."""
    parts, depth, quote = [""], 0, False
    for letter in signature:
        quote ^= letter == "'"
        depth += (letter in "([{") - (letter in ")]}") if not quote else 0
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    named = [part.strip() for part in parts if part.strip() not in ("", "*", "/")]
    return {part.partition("=")[0].lstrip("*"): part for part in named}


def facts(snapshot):
    """What a snapshot promises: by a key, the names that it is about, and the text of the promise.

    The keys are `(name,)` for a name, `(name, member, argument)` for an argument of a name, of a method
    or of a convention, and `("state", code)` for the layout of the state of an optimizer.
    """
    found, (names, states) = {}, snapshot.partition("# Names")[2].split("# States", 1)
    name = ""
    for line in names.splitlines():
        if match := re.match(r"    (?:\.(\w+)\((.*)\)$|convention ('\w+'): (.*))", line):
            member, given = (match[1], match[2]) if match[1] else (match[3], match[4])
        elif match := re.match(r"(\w+)(?:\((.*)\))?(?:: (\w+))?$", line):
            name, member, given = match[1], "", match[2] or ""
            found[name,] = [name], match[3]
        else:
            continue
        if member:
            found[name, member, ""] = [name], member
        for argument, text in arguments(given).items():
            found[name, member, argument] = [name], text
    for block in re.split(r"\n(?=\S)", states.partition("\n")[2]):
        code, _, text = block.strip().partition("\n")
        found["state", code] = re.findall(r"(\w+)\(", code), text
    return found


def unannounced(old, new, changelog):
    """For every change between two snapshots that the changelog does not announce: what is to be said.

    A name that no version has yet is not promised to anyone, so that its changes need no entry. An
    addition is announced with its name, which another test holds.
    """
    unreleased, _, released = changelog.partition("## [Unreleased]")[2].partition("\n## [")
    entries = re.split(r"\n(?=- |#)", unreleased.partition("### Changed")[2])
    before, after = facts(old), facts(new)
    said = []
    for key, (names, text) in before.items():
        names = [name for name in names if re.search(rf"`(gradtx\.)?{name}\b", released)]
        now = after.get(key, (None, None))[1]
        is_state = key[0] == "state"
        if not names or (key in after and now == text) or (is_state and key not in after):
            continue
        whole = [key[:1], (*key[:2], "")] if len(key) > 1 and key[1] else [key[:1]]
        if not is_state and key not in whole and any(x not in after for x in whole):
            continue  # the whole name or method went away, and is said once
        word = "state" if is_state else "" if len(key) == 1 else now or key[2] or key[1]
        of_names = [x for x in entries if any(re.search(rf"`[^`]*\b{n}\b", x) for n in names)]
        if not any(word in " ".join(x.split()) for x in of_names):
            what = f"the state of `{key[1]}`" if is_state else ", ".join(filter(None, key))
            said.append(f"{what} ({text} -> {now}): an entry with `{names[0]}` and {word!r}")
    return said


def test_the_public_face_changes_only_when_that_is_announced():
    new = face()
    old = SNAPSHOT.read_text()
    if os.environ.get("REWRITE"):
        if missing := unannounced(old, new, (ROOT / "CHANGELOG.md").read_text()):
            pytest.fail(
                "CHANGELOG.md announces these changes neither under [Unreleased], Changed, nor below "
                "it, so the snapshot is not written:\n\n" + "\n".join(missing),
                pytrace=False,
            )
        SNAPSHOT.write_text(new)
        old = new
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


EARLIER = """
# Names

adam(learning_rate, b1=0.9, eps_root=None, *, convention='optax'): Recipe
    convention 'torch': b1=0.8, eps=1e-08
    .init(params)
lars(learning_rate, by=hidden(a=1, b='x,y')): Recipe
soap(learning_rate, b1=0.95): Recipe

# States for the parameters {bias: [3]}

adam(0.1)
    ScaleByAdamState(mu=float32 per parameter)
    EmptyState()
lars(0.1)
    EmptyState()
"""
CHANGELOG = """
## [Unreleased]

### Added

- `adam(b1=0.7)` is an addition, and not a change.

### Changed

{}

## [0.1.0] - 2026-11-24

- `adam` and `lars` exist.
"""


@pytest.mark.parametrize(
    ("was", "becomes", "entry"),
    [
        ("b1=0.9", "b1=0.7", "- The default of `adam` is `b1=0.7`\n  for everyone."),
        ("eps_root=None, ", "", "- `adam` has no `eps_root`."),
        ("learning_rate, b1=0.9", "b1=0.9", "- `adam` has no `learning_rate`."),
        ("b1=0.8", "b1=0.7", "- `adam(convention='torch')` has `b1=0.7`."),
        (".init(params)", ".start(params)", "- The method `init` of `adam` is `start`."),
        ("b='x,y'", "b='x'", "- `lars` has `by=hidden(a=1, b='x')`."),
        ("lars(learning_rate, by=hidden(a=1, b='x,y')): Recipe\n", "", "- `lars` is gone."),
        ("'optax'): Recipe", "'optax'): Elementwise", "- `adam` works per leaf."),
        ("mu=float32", "mu=bfloat16", "- The state of `adam` has other dtypes."),
    ],
)
def test_a_change_of_what_was_released_needs_an_entry(was, becomes, entry):
    assert EARLIER.count(was) >= 1
    new = EARLIER.replace(was, becomes, 1)
    other = "- `adam` and `lars` are faster, and `soap(b1=0.5)` too."
    assert len(unannounced(EARLIER, new, CHANGELOG.format(entry))) == 0
    said = unannounced(EARLIER, new, CHANGELOG.format(""))
    assert len(said) == 1 and re.search(r"an entry with `(adam|lars)`", said[0])
    if "`adam` works" not in entry and "gone" not in entry:  # there a mention of the name is enough
        assert unannounced(EARLIER, new, CHANGELOG.format(other)) == said


def test_additions_and_what_is_not_released_need_no_entry():
    new = EARLIER.replace("b1=0.9", "b1=0.9, b2=0.99").replace("b1=0.95", "b1=0.5")
    new = new.replace("lars(0.1)\n", "lion(0.1)\n    EmptyState()\nlars(0.1)\n")
    assert unannounced(EARLIER, new, CHANGELOG.format("")) == []
    assert unannounced(EARLIER, EARLIER.replace("soap", "kl_soap"), CHANGELOG.format("")) == []
    everything = facts(SNAPSHOT.read_text())
    assert {key[0] for key in everything} - {"state"} == {*NAMES}
    assert everything["adamw", "", "b2"] == (["adamw"], "b2=0.999")
    assert everything["adamw", "'torch'", "weight_decay"][1] == "weight_decay=0.01"
    assert "ScaleByAdamState" in everything["state", "adam(0.1)"][1]

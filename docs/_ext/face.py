r"""A Sphinx extension that makes the pages of the API from `gradtx/__init__.pyi` and from its classes.

- `.. concept:: Composition` documents every name below the comment `# Composition` in
  `gradtx/__init__.pyi`. `.. overview::` lists all names with the first sentence of their docstrings.
  `.. conventions::` lists which defaults each convention of a recipe fills in.
- The signature of a class shows its fields and their defaults. The intervals in `limits` are added to
  the text, and so is the definition of a recipe.
- Docstrings are written in Markdown. Formulas (`$...$` and `$$...$$`), code in single backticks and
  arXiv numbers are turned into reStructuredText, which Sphinx reads.
"""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Collection
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

import gradtx
from gradtx._core.static import show

# The methods to document, for the classes whose methods a user overrides or calls.
METHODS = {
    "Value": "validate",
    "Transform": "init, update, init_tree, update_tree",
    "Elementwise": "init_leaf, update_leaf, begin, measure, at_leaf",
    "Matrixwise": "init_matrix, update_matrix, begin, measure",
    "Wrapper": "init_tree",
    "Moment": "gain",
    "Recipe": "expand, state",
    "Codec": "encode, decode",
    "Basis": "into, back, size, init_matrix, learn, due, refresh, carry",
    "Measure": "entries, value, at_leaf, initial, step",
    "Schedule": "__call__, shift, min, max",
    "MatrixAxes": "size, sizes, batch, split, join, split_parts, join_parts",
    "hidden_matrices": "why, axes",
}


def concepts() -> dict[str, list[str]]:
    """The names in `gradtx/__init__.pyi`, grouped by the comment above them."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in Path(gradtx.__file__).with_suffix(".pyi").read_text().splitlines():
        if line.startswith("# "):
            names = found.setdefault(line[2:].strip(), [])
        # One name per line, also where parentheses spread an import over several lines.
        elif match := re.match(r"(?:from [\w.]+ import|   ) \w+ as ([a-zA-Z]\w*)", line):
            names.append(match[1])
    return {concept: names for concept, names in found.items() if names}


class Concept(SphinxDirective):
    """The directive `.. concept:: Composition`, which documents every name of the concept, in order."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        names = concepts().get(self.arguments[0])
        if names is None:
            raise self.error(f"gradtx/__init__.pyi has no comment {self.arguments[0]!r}")
        return self.parse_text_to_nodes("\n".join(map(_entry, names)))


class Overview(SphinxDirective):
    """The directive `.. overview::`, a table of names and first sentences for every concept."""

    def run(self) -> list[nodes.Node]:
        text = []
        for concept, names in concepts().items():
            text += [f".. rubric:: {concept}", "", ".. list-table::", "   :widths: 30 70", ""]
            for name in names:
                text += [f"   * - {_link(name)}", f"     - {_first_line(name)}"]
            text.append("")
        return self.parse_text_to_nodes("\n".join(text))


class Conventions(SphinxDirective):
    """The directive `.. conventions::`, a table of the defaults that each convention fills in."""

    def run(self) -> list[nodes.Node]:
        text = [".. list-table::", "   :header-rows: 1", "   :widths: 16 14 70", ""]
        text += ["   * - recipe", "     - convention", "     - defaults that it fills in"]
        for name in concepts()["Optimizers"]:
            for convention, fields in getattr(getattr(gradtx, name), "conventions", {}).items():
                given = ", ".join(f"{field}={value!r}" for field, value in fields.items())
                text += [f"   * - {_link(name)}", f'     - ``"{convention}"``']
                text += [
                    f"     - ``{given}``"
                    if given
                    else "     - none: the signature has these defaults"
                ]
        return self.parse_text_to_nodes("\n".join(text))


def _entry(name: str) -> str:
    obj = getattr(gradtx, name)
    if alias := _alias(name):
        return f".. py:data:: {name}\n   :module: gradtx\n\n   {alias}\n"
    if inspect.isclass(obj):
        methods = f"\n   :members: {METHODS[name]}" if name in METHODS else ""
        return f".. autoclass:: gradtx.{name}{methods}\n"
    if name == "Hyper":
        return ".. autodata:: gradtx.Hyper\n   :no-value:\n"
    return f".. autofunction:: gradtx.{name}\n"


def _alias(name: str) -> str:
    """The text for a name that is a second name of another object; empty for all other names."""
    own = getattr(getattr(gradtx, name), "__name__", name)
    return f"The same as {_link(own)}." if own != name and own in _NAMES else ""


def _first_line(name: str) -> str:
    if alias := _alias(name):
        return alias
    doc = inspect.getdoc(getattr(gradtx, name)) if name != "Hyper" else HYPER
    return to_rst((doc or "").split("\n\n")[0].replace("\n", " "))


# The text for `Hyper`, which is a type alias and has no docstring.
HYPER = "A number, an array, or a schedule, which is a function from the step to a number."


def _link(name: str) -> str:
    return f":py:obj:`{name} <gradtx.{name}>`"


# Docstrings: from Markdown to reStructuredText.

_INLINE = re.compile(r"``.+?``|(?<![:`\w])`([^`]+)`(?!`)|(?<![\\$])\$([^$]+?)\$(?!\$)", re.DOTALL)
_ARXIV = re.compile(r"\barXiv:\s*(\d{4}\.\d{4,5})")


def to_rst(text: str, own: Collection[str] = ()) -> str:
    """Convert formulas, code and arXiv numbers to reStructuredText, and leave doctests unchanged.

    Code that is a public name of gradtx becomes a link, except for the names in `own`, which are the
    fields or arguments of the object that `text` describes.
    """
    parts = re.split(r"(\$\$.*?\$\$|^[ ]*>>>.*?(?:\n[ ]*\n|\Z))", text, flags=re.DOTALL | re.M)
    return "".join(_part(part, _NAMES.difference(own)) for part in parts)


def _part(text: str, linked: Collection[str]) -> str:
    if text.lstrip().startswith(">>>"):
        return text
    if text.startswith("$$"):
        formula = " ".join(text.strip("$").split())
        return f"\n\n.. math:: {formula}\n\n"
    # Markdown's indented block after a colon is code; reStructuredText wants two colons there.
    text = re.sub(r":\n\n(?=    +\S)", "::\n\n", text)
    text = _INLINE.sub(lambda match: _inline(match, linked), text)
    return _ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def _inline(match: re.Match[str], linked: Collection[str]) -> str:
    code, formula = match.groups()
    # Markup does not end where a letter follows at once, so an escaped space separates them.
    end = "\\ " if match.string[match.end() :][:1].isalnum() else ""
    if formula is not None:
        return f":math:`{' '.join(formula.split())}`" + end
    if code is None:
        return match[0]
    code = " ".join(code.split())
    name = code.removeprefix("gradtx.")
    return (_link(name) if name in linked else f"``{code}``") + end


_NAMES = {name for names in concepts().values() for name in names}


def docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    text = _unindent_math("\n".join(lines))
    if name == "gradtx.Hyper":
        text = HYPER
    if what == "class" and isinstance(obj, type):
        text += _limits(obj) + _definition(obj)
    own = {obj.__name__, *getattr(obj, "__annotations__", ())} if isinstance(obj, type) else ()
    lines[:] = to_rst(text, own or _parameters(obj)).splitlines()


def _parameters(obj: object) -> list[str]:
    return list(inspect.signature(obj).parameters) if inspect.isroutine(obj) else []


def _unindent_math(text: str) -> str:
    # The directive that replaces a displayed formula stands at the margin, so the indentation goes.
    return re.sub(r"\n[ ]*(\$\$)", r"\n\1", text)


def _limits(cls: type) -> str:
    limits = getattr(cls, "limits", None)
    if not limits or not issubclass(cls, gradtx.Value) or cls is gradtx.Value:
        return ""
    said = inspect.getdoc(cls) or ""
    listed = [f"`{n}` in {interval}" for n, interval in limits.items() if interval not in said]
    return f"\n\nThese intervals are checked: {', '.join(listed)}." if listed else ""


def _definition(cls: type) -> str:
    if not issubclass(cls, gradtx.Recipe) or cls is gradtx.Recipe:
        return ""
    source = textwrap.dedent(inspect.getsource(cls.expand))
    body = textwrap.indent(textwrap.dedent(source.split("\n", 1)[1]), "    ")
    return f"\n\nThe definition (`expand`):\n\n.. code-block:: python\n\n{body}"


# Signatures, from fields and defaults.


def signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, sig: str, returns: str
) -> tuple[str, str | None] | None:
    if what != "class" or not isinstance(obj, type) or not issubclass(obj, gradtx.Value):
        return None
    if obj in (gradtx.Value, gradtx.Transform, gradtx.Elementwise, gradtx.Recipe):
        return "", None
    if "__init__" in vars(obj) and dataclasses.fields(obj)[-1:] and _variadic(obj):
        return _variadic(obj), None
    shown = []
    for parameter in list(inspect.signature(obj.__init__).parameters.values())[1:]:
        given = parameter.default is not parameter.empty
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(f"{parameter.name}={show(parameter.default)}" if given else parameter.name)
    return f"({', '.join(shown)})", None


def _variadic(cls: type) -> str:
    """The signature of a constructor that takes its last field as `*args`; empty for all others."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return ""
    first = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return f"({', '.join([*first, '*' + parameters[-1].name])})"


def every_name_has_a_page(app: Sphinx) -> None:
    pages = "\n".join(page.read_text() for page in Path(app.srcdir).glob("api/*.md"))
    if missing := [c for c in concepts() if f".. concept:: {c}\n" not in pages]:
        raise ExtensionError(f"docs/api has no page with `.. concept:: {missing[0]}`")
    if missing := sorted({*gradtx.__all__} - _NAMES):
        raise ExtensionError(f"gradtx/__init__.pyi has no comment above `{missing[0]}`")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("concept", Concept)
    app.add_directive("conventions", Conventions)
    app.add_directive("overview", Overview)
    app.connect("builder-inited", every_name_has_a_page)
    # Before napoleon, which reads the result.
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True}

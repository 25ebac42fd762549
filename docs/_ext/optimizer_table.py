r"""The table of all optimizers, which is made from their classes and from their compiled programs.

`.. optimizers::` is the table in the documentation. `python docs/_ext/optimizer_table.py` prints it.

The composition is what the recipe expands to with its defaults. The bytes of the state are those that
the compiled `init` returns for a matrix in float32, divided by the number of its entries.
"""

import inspect
import re
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from docutils import nodes
from face import _link, concepts, to_rst
from good_for import GOOD_FOR
from primitives import GLUE, own_primitives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import gradtx

# What the table passes to arguments without a default.
GIVEN = {
    "learning_rate": 1e-3,
    "max_learning_rate": 1e-3,
    "optimizer": gradtx.sgd(1e-3),
    "fast_optimizer": gradtx.sgd(1e-3),
    "inner": gradtx.adamw(1e-3, weight_decay=0.0),
}
SIDE = 256
YEAR = re.compile(r"\b(19|20)\d\d\b(?!\.)")


class Row(NamedTuple):
    """One optimizer.

    Attributes:
        name: its name.
        source: the sources that its docstring names.
        year: the year of the first source.
        composition: what it expands to, as it prints.
        parts: the names of the transformations in its composition.
        state_bytes: the bytes of its state per parameter.
        good_for: when to take it.
    """

    name: str
    source: str
    year: str
    composition: str
    parts: tuple[str, ...]
    state_bytes: float
    good_for: str


def rows() -> list[Row]:
    """A row for every optimizer, in alphabetical order."""
    return [row_of(name) for name in sorted(concepts()["Optimizers"])]


def row_of(name: str) -> Row:
    """The row of one optimizer."""
    tx = made(name)
    source = source_of(getattr(gradtx, name))
    year = YEAR.search(source)
    shown = tx.expand() if isinstance(tx, gradtx.Recipe) else tx
    return Row(
        name,
        source,
        year[0] if year else "",
        repr(shown),
        parts_of(tx),
        state_bytes(tx),
        GOOD_FOR[name],
    )


def made(name: str) -> Any:
    """An optimizer with its defaults."""
    make = getattr(gradtx, name)
    needed = [
        p.name
        for p in list(inspect.signature(make.__init__).parameters.values())[1:]
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    return make(**{x: GIVEN[x] for x in needed})


def source_of(make: Any) -> str:
    """The sentence of a docstring that names the sources."""
    text = inspect.getdoc(make) or ""
    found = re.search(r"^Sources?: (.+?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).removesuffix(".") if found else ""


def parts_of(tx: Any) -> tuple[str, ...]:
    """The names of the transformations that an optimizer is composed of, each one once."""
    found: dict[str, None] = {}

    def walk(node: Any) -> None:
        children = node.children
        name = type(node).__name__
        if not isinstance(node, gradtx.Recipe) and name not in GLUE:
            found[name.removeprefix("_")] = None
        for child in children:
            walk(child)

    walk(tx)
    return tuple(sorted(found))


def state_bytes(tx: Any) -> float:
    """The bytes of the state per parameter, from the memory analysis of the compiled `init`."""
    params = {"kernel": jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)}
    compiled: Any = jax.jit(tx.init).lower(params).compile()
    return compiled.memory_analysis().output_size_in_bytes / SIDE**2


def shared_parts(table: list[Row]) -> list[tuple[str, int]]:
    """The parts that several optimizers have in common, and how many these are."""
    counts = Counter(part for row in table for part in row.parts)
    return [(part, n) for part, n in counts.most_common() if n > 1]


def rst(table: list[Row]) -> str:
    """The table as reStructuredText."""
    shared = dict(shared_parts(table))
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 14 22 10 20 34",
        "   :class: optimizers",
        "",
    ]
    lines += _cells("optimizer", "source", "state", "shared parts", "composition, and its use")
    for row in table:
        parts = ", ".join(_link(x) if x in dir(gradtx) else x for x in row.parts if x in shared)
        composition = to_rst(row.good_for) + f" ``{row.composition}``"
        size = f"{row.state_bytes:.2f}".rstrip("0").rstrip(".")
        lines += _cells(_link(row.name), to_rst(row.source), size, parts or "none", composition)
    return "\n".join(lines)


def _cells(*cells: str) -> list[str]:
    marks = "*", *" " * (len(cells) - 1)
    return [f"   {mark} - {cell}" for mark, cell in zip(marks, cells, strict=True)]


class Optimizers(SphinxDirective):
    """The directive `.. optimizers::`."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(rst(rows()))


class SharedParts(SphinxDirective):
    """The directive `.. shared-parts::`, which lists the parts of several optimizers."""

    def run(self) -> list[nodes.Node]:
        listed = [f"{_link(part)} ({n})" for part, n in shared_parts(rows()) if part in dir(gradtx)]
        return self.parse_text_to_nodes(", ".join(listed) + ".")


class OwnPrimitives(SphinxDirective):
    """The directive `.. own-primitives::`, which counts and lists what only one optimizer contains."""

    def run(self) -> list[nodes.Node]:
        names = sorted(concepts()["Optimizers"])
        own = own_primitives(names)
        listed = [f"{_link(x)} ({', '.join(map(_name, own[x]))})" for x in own]
        share = f"{len(own)} of {len(names)} optimizers, {len(own) / len(names):.0%}: "
        return self.parse_text_to_nodes(share + ", ".join(listed) + ".")


def _name(part: str) -> str:
    return _link(part) if part in dir(gradtx) else f"``{part}``"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("optimizers", Optimizers)
    app.add_directive("shared-parts", SharedParts)
    app.add_directive("own-primitives", OwnPrimitives)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    for row in rows():
        print(f"{row.name:<28} {row.year:<5} {row.state_bytes:6.2f}  {row.composition}")

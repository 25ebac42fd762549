"""Which optimizers have a primitive of their own, which is read in their code.

A primitive is a transformation with arithmetic of its own, or a basis: not a recipe, and not glue such
as `chain`. The parts of an optimizer are all primitives that its code names, those behind options and
those of the recipes and functions that it calls included.
"""

import ast
import functools
import importlib
import inspect
from typing import Any

import gradtx

# Compositions of parts, which are not parts themselves.
GLUE = {"chain", "named_chain", "fanout", "partition", "masked", "identity", "constant", "once"}


@functools.cache
def _definitions(module: str) -> dict[str, ast.AST]:
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {x.name: x for x in tree.body if isinstance(x, ast.ClassDef | ast.FunctionDef)}


@functools.cache
def primitives_of(make: Any) -> frozenset[str]:
    """The names of the primitives in the code of a recipe or of a function."""
    found: set[str] = set()
    seen: set[Any] = set()

    def walk(thing: Any) -> None:
        if thing in seen or not str(getattr(thing, "__module__", "")).startswith("gradtx."):
            return
        seen.add(thing)
        if isinstance(thing, type):
            if not issubclass(thing, gradtx.Transform | gradtx.Basis):
                return
            if not issubclass(thing, gradtx.Recipe):
                found.add(thing.__name__)
                return
            for parent in thing.__mro__[1:]:
                walk(parent)
        elif not inspect.isfunction(thing) or "._core." in thing.__module__:
            return
        module = importlib.import_module(thing.__module__)
        node = _definitions(thing.__module__).get(thing.__name__)
        for name in {x.id for x in ast.walk(node) if isinstance(x, ast.Name)} if node else ():
            value = getattr(module, name, None)
            if isinstance(value, type) or inspect.isfunction(value):
                walk(value)

    walk(make)
    return frozenset(found - GLUE - {"Transform", "Recipe", "Basis"})


def own_primitives(names: list[str]) -> dict[str, list[str]]:
    """For each optimizer that has some, the primitives that no other optimizer contains."""
    parts = {name: primitives_of(getattr(gradtx, name)) for name in names}
    own = {
        name: sorted(x for x in mine if all(x not in parts[y] for y in names if y != name))
        for name, mine in parts.items()
    }
    return {name: x for name, x in own.items() if x}

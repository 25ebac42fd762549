"""The transformations that others call by themselves, for what is said about a whole optimizer.

A lowered program does not show what lies inside a transformation that overrides `update_tree`, since
that one calls its parts itself. By default, each part is given the leaves of the transformation around
it, in the order of the fields. A class for which that is not so defines `given_inside`:

    given_inside(leaves, structure) -> [(part, leaves), ...]

There, leaves are `jax.ShapeDtypeStruct`s, which have a sharding if it is known, or None.
"""

from collections.abc import Iterator
from typing import Any

import jax

from gradtx._core.layouts import warn_of_layout
from gradtx._core.program import Program, known_program
from gradtx._core.trees import Structure
from gradtx._core.whole import Tree

Leaves = list[jax.ShapeDtypeStruct | None]


def given_inside(tx: Any, leaves: Leaves, structure: Structure) -> list[tuple[Any, Leaves]]:
    """The transformations that `tx` calls by itself, in the order of the calls, and their leaves."""
    if hasattr(tx, "given_inside"):
        return tx.given_inside(leaves, structure)
    return [(part, leaves) for part in tx.children]


def callers(program: Program, leaves: Leaves) -> Iterator[tuple[Any, Leaves]]:
    """The transformations in a program that override `update_tree`, and the leaves that reach each."""
    for stage in program.lowering.trees:
        if isinstance(stage, Tree):
            own = [x if has else None for x, has in zip(leaves, stage.owned, strict=True)]
            yield stage.start, own


def programs(tx: Any, leaves: Leaves, structure: Structure) -> Iterator[tuple[Program, Leaves]]:
    """The program of an optimizer, and those of what it calls by itself, at any depth."""
    program = known_program(tx, leaves, structure)
    yield program, leaves
    for caller, own in callers(program, leaves):
        for part, inside in given_inside(caller, own, structure):
            yield from programs(part, inside, structure)


def with_shardings(leaves: list[Any], shardings: list[Any]) -> Leaves:
    """The shapes and dtypes of these leaves, or None, with these shardings, or None."""
    return [
        None if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
        for x, s in zip(leaves, shardings, strict=True)
    ]


def warn_of_layouts(tx: Any, leaves: Leaves, structure: Structure, stacklevel: int) -> None:
    """Warn of layouts in which a step is slow, as `warn_of_layout`, also inside of wrappers."""
    for program, own in programs(tx, leaves, structure):
        warn_of_layout(program, own, [getattr(x, "sharding", None) for x in own], stacklevel + 1)

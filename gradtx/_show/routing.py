"""The table of the transformation that each parameter goes to, the reason, and other effects."""

from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from jax.sharding import NamedSharding

from gradtx._compose.partition import partition
from gradtx._compose.recipe import Recipe
from gradtx._core.boundary import as_param
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.inside import Leaves, callers, given_inside, programs, with_shardings
from gradtx._core.layouts import advice_on
from gradtx._core.lowering import Lowering
from gradtx._core.program import Program
from gradtx._core.terms import Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.values import Value
from gradtx._matrices.heads import possible_heads
from gradtx._matrices.traffic import traffic
from gradtx._show.effects import effects, leaves_of
from gradtx._show.html import columns, table

_HEADER = ("leaf", "shape", "goes to", "why", "effects")


class Route(NamedTuple):
    """A row of the table: a parameter, and what happens to it.

    Attributes:
        path: the path of the leaf.
        shape: its shape.
        label: the name of the transformation that it goes to.
        why: the reason for the label.
        effects: what else happens to it, joined by ", ": "decays" if a weight decay acts on it, "frozen"
            if it does not move, "in masked(...)" if it lies inside a mask, and "2 all-to-alls with 3
            others" if devices exchange it together with three other leaves.
    """

    path: str
    shape: tuple[int, ...]
    label: str
    why: str
    effects: str = ""


class Routes(tuple[Route, ...]):
    """The rows that `routing` returns. They print as a table, and notebooks display them as a table.

    `notes` are sentences about rows that may be wrong, which stand below the table.
    """

    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        header, *rows = self._table
        lines = columns([header, *rows])
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, *self.notes])

    @property
    def _table(self) -> list[tuple[str, ...]]:
        rows = [_HEADER, *((r.path, _shape(r.shape), r.label, r.why, r.effects) for r in self)]
        some = any(r.effects for r in self)
        return rows if some else [row[:-1] for row in rows]

    def _repr_html_(self) -> str:
        header, *rows = self._table
        return table(header, rows) + "".join(f"<p>{escape(note)}</p>" for note in self.notes)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def routing(tx: Transform, params: PyTree) -> Routes:
    """A table that says for every parameter which transformation in `tx` it goes to, and why.

    The column `effects` says which parameters a weight decay acts on, which ones are frozen, and which
    ones lie inside a mask. If the parameters lie on a mesh, it also says by which collective operations
    the devices bring together the matrices of a leaf, and with how many other leaves, and which updates
    `zero1` gathers. The column is left out where it is empty.

    Args:
        tx: a transformation, such as a `partition` or `muon`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Returns:
        A tuple of rows `Route(path, shape, label, why, effects)`, one per parameter, which prints as a
        table. If a partition lies inside another one, the label is both labels, joined by " > ". A
        parameter that no partition labels has the name of `tx` as its label. Below the table, a note
        names each matrix that may be an output head, though Muon trains it, and says what to do.

    Raises:
        ValueError: if a partition has no transformation for the label of a parameter.
        TypeError: if `tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.muon(2e-3, weight_decay=0.1, mask=gradtx.by_rank(2))
    >>> gradtx.routing(tx, {"w": jnp.ones((4, 8)), "b": jnp.ones(8)})
    leaf  shape  goes to  why            effects
    ----  -----  -------  -------------  -------
    b     8      adamw    vector
    w     4x8    muon     matrix 4 -> 8  decays
    """
    check_arguments(routing, locals())
    tx = as_transform(tx, "routing(tx=...)")
    leaves, structure = flatten(params)
    shapes = [as_param(x) if hasattr(x, "shape") else None for x in leaves]
    root = Visit(None, [], [])
    low = Lowering(shapes, structure, root)
    low.lower(tx, low.source())
    (visit,) = root.inside
    shardings = [getattr(x, "sharding", None) for x in leaves]
    shardings = [x if isinstance(x, NamedSharding) else None for x in shardings]
    placed = with_shardings(shapes, shardings)
    _look_inside(visit, low, placed)
    ways: list[tuple[list[str], str]] = [([], "") for _ in shapes]
    notes: dict[str, None] = {}
    _follow(visit, low, ways, {}, notes)
    on = effects(visit)
    if any(shardings):
        for program, own in programs(tx, placed, structure):
            _communication(program, own, on, notes)
    routes = Routes(
        Route(
            path,
            tuple(x.shape),
            " > ".join(labels) or type(tx).__name__,
            why,
            ", ".join(name for name, own in on.items() if i in own),
        )
        for i, (path, x, (labels, why)) in enumerate(zip(low.paths, shapes, ways, strict=True))
        if x is not None
    )
    routes.notes = tuple(notes)
    return routes


def _communication(
    program: Program, leaves: Leaves, on: dict[str, set[int]], notes: dict[str, None]
) -> None:
    """Write into `on` and `notes` what the devices send in a program for leaves on a mesh."""
    shardings = [x and x.sharding for x in leaves]
    stages = program.on_mesh.stages if program.lowering.matrices else []
    sent = traffic(stages, leaves, shardings)
    for i, words in ((i, words) for i, several in sent.items() for words in several):
        on.setdefault(words, set()).add(i)
    for advice in advice_on(program, leaves, shardings):
        on.setdefault(advice.effect, set()).update(advice.leaves)
        notes[advice.sentence] = None
    for tx, own in callers(program, leaves):
        if hasattr(tx, "sends"):
            for i, words in tx.sends(own, program.lowering.structure).items():
                on.setdefault(words, set()).add(i)


def _look_inside(visit: Visit, low: Lowering, leaves: Leaves) -> None:
    """Also lower what a wrapper calls by itself, for the leaves that reach the wrapper."""
    own = leaves_of(visit)
    if not visit.inside and visit.tx._overrides("update_tree"):
        reached = [x if i in own else None for i, x in enumerate(leaves)]
        for part, inside in given_inside(visit.tx, reached, low.structure):
            below = Lowering(inside, low.structure, visit)
            below.lower(part, below.source())
            visit.inside[-1].low = below
            _look_inside(visit.inside[-1], below, inside)
        return
    for inner in visit.inside:
        _look_inside(inner, low, leaves)


def _follow(
    visit: Visit,
    low: Lowering,
    ways: list[tuple[list[str], str]],
    names: Mapping[Any, str],
    notes: dict[str, None],
) -> None:
    """Write the labels of every leaf into `ways`, from the outside in, with the last rule's reason.

    `names` are the names that the recipe around a partition gives to its groups, by their labels. What
    may be wrong is added to `notes`.
    """
    if isinstance(visit.tx, Recipe):
        names = getattr(visit.tx, "group_names", {})
    if isinstance(visit.tx, partition):
        rule, labels = visit.tx.param_labels, visit.tx.labels(low, visit.stream)
        heads = possible_heads(rule, low.paths, low.leaves)
        for i, term in enumerate(visit.stream):
            if term is not None:
                notes |= {heads[i]: None} if i in heads else {}
                name = names.get(labels[i], str(labels[i]))
                ways[i] = [*ways[i][0], name], _reason(rule, low.paths[i], low.leaves[i])
    for inner in visit.inside:
        _follow(inner, inner.low or low, ways, names, notes)


def _reason(rule: Any, path: str, leaf: Any) -> str:
    if hasattr(rule, "why"):
        return rule.why(path, leaf)[1]
    if isinstance(rule, Value):
        return repr(rule)
    return f"by {rule.__name__}" if hasattr(rule, "__name__") else "by its label"

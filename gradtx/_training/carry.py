"""`migrate`: a run goes on with another optimizer, which takes over what it knows of the old state.

A state is a tree of nodes, which are mostly NamedTuples. A field of a node holds one array, which all
parameters share, or a tree with one array per parameter. The arrays of the new state are looked up in
the old one, node by node: a node of the old state fits if it has the fields of the new one.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.foreign import as_transform
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, path_string, paths, unboxed

Entries = dict[tuple[str, str | None], int]  # (field, path of the parameter or None) -> which leaf


class Migration(NamedTuple):
    """What `migrate` did, as paths in the states. It prints as a list of what was not carried over.

    Args:
        carried: pairs of paths: of an array in the new state, and of this array in the old one.
        started: arrays of the new state that start as `init` makes them.
        left: arrays of the old state that the new state does not have.
    """

    carried: tuple[tuple[str, str], ...]
    started: tuple[str, ...]
    left: tuple[str, ...]

    def __repr__(self) -> str:
        lines = [f"{len(self.carried)} arrays are carried over."]
        for title, names in (
            ("start as `init` makes them", self.started),
            ("of the old state are not used", self.left),
        ):
            lines += [f"{len(names)} arrays {title}:", *(f"  {x}" for x in names)] if names else []
        return "\n".join(lines)


def migrate(
    state: PyTree,
    tx: Transform,
    params: PyTree,
    report: Callable[[Migration], Any] | None = None,
) -> Any:
    """The state with which `tx` continues a run that another optimizer began.

    `state = migrate(state, new_tx, params)` is for a change in the middle of a run: a layer is no longer
    frozen, a schedule takes the place of a number, a link joins the chain, `adam` becomes `adamw`.

    An array is carried over if the old state has an array of this name and shape, for the same
    parameter, in a node with the same fields. So Adam's `mu` and `nu` are carried over together or not
    at all. Where several nodes fit, labels decide, and then the order. All other arrays start as `init`
    makes them.

    A counter that all parameters share, such as Adam's `count`, goes with the arrays beside it, and
    starts at 0 if all of these start. Where only some start, the counter is too large for them, and the
    first steps of their parameters are too large: by a factor of 3 under Adam. So give parameters that
    join the run a label of their own in `partition`. The step of the learning rate always continues.

    Args:
        state: the state of the old optimizer, of gradtx or of Optax, or what has it as `opt_state`, such
            as `nnx.Optimizer` and `TrainState` of Flax.
        tx: the new optimizer.
        params: the parameters.
        report: a function that is called with the `Migration`, which lists what was carried over and
            what was not, such as `print`.

    Raises:
        ValueError: if no array of the old state is carried over.
        TypeError: if `tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"w": jnp.ones(2)}
    >>> state = gradtx.adam(1e-3).init(params)
    >>> tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3))
    >>> state = gradtx.migrate(state, tx, params, report=print)
    5 arrays are carried over.
    """
    as_transform(tx, "migrate(tx=...)")
    state, params = unboxed(getattr(state, "opt_state", state)), unboxed(params)
    known = set(paths(params))
    fresh = tx.init(params)
    old, old_leaves, old_names = _nodes(state, known)
    new, leaves, names = _nodes(fresh, known)
    source: dict[int, int] = {}
    for path, entries in new.items():
        source |= _matched(path, entries, new, old, leaves, old_leaves)
    if old_leaves and not source:
        raise ValueError(
            f"`migrate`: the state of `{tx}` has no array in common with the state that was passed, "
            f"{described(state)}. Start with `tx.init(params)`, or pass the state of the old optimizer."
        )
    used: set[int] = set()
    for i, j in source.items():
        # An array with two places would be donated twice, so its second place gets a copy.
        leaves[i] = jnp.array(old_leaves[j], leaves[i].dtype, copy=j in used)
        used.add(j)
    if report is not None:
        report(
            Migration(
                tuple((names[i], old_names[j]) for i, j in source.items()),
                tuple(name for i, name in enumerate(names) if i not in source),
                tuple(name for j, name in enumerate(old_names) if j not in used),
            )
        )
    return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


def _nodes(
    state: PyTree, known: set[str]
) -> tuple[dict[tuple[str, ...], Entries], list[Any], list[str]]:
    """The nodes of a state by their paths, its leaves, and the paths of the leaves.

    Args:
        state: the state.
        known: the paths of the parameters.
    """
    flat = jax.tree_util.tree_leaves_with_path(state)
    names = [name for name, x in zip(paths(state), _with_none(state), strict=True) if x is not None]
    nodes: dict[tuple[str, ...], Entries] = {}
    for i, ((keys, _), name) in enumerate(zip(flat, names, strict=True)):
        at, param = len(keys), None
        for j in range(1, len(keys) + 1):  # the longest end of the path that is a parameter's
            start = path_string(keys[:j])
            end = name[len(start) + 1 :]
            if isinstance(keys[j - 1], jax.tree_util.GetAttrKey) and end in known:
                at, param = j, end
                break
        node = tuple(path_string((key,)) for key in keys[: at - 1])
        field = path_string(keys[at - 1 : at])
        nodes.setdefault(node, {})[field, param] = i
    return nodes, [x for _, x in flat], names


def _with_none(state: PyTree) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=lambda x: x is None)


def _matched(
    path: tuple[str, ...],
    entries: Entries,
    new: dict[tuple[str, ...], Entries],
    old: dict[tuple[str, ...], Entries],
    leaves: list[Any],
    old_leaves: list[Any],
) -> dict[int, int]:
    """For the arrays of one node of the new state: which leaf of the old state each is taken from."""

    def fits(other: Entries, keys: Iterable[tuple[str, str | None]]) -> bool:
        return all(
            key in other and _alike(leaves[entries[key]], old_leaves[other[key]]) for key in keys
        )

    fields = {field for field, _ in entries}
    nodes = [node for node, own in old.items() if fields <= {field for field, _ in own}]
    nodes.sort(key=lambda node: _likeness(path, node, new, old), reverse=True)
    by_param: dict[str, list[tuple[str, str | None]]] = {}
    for field, param in entries:
        if param is not None:
            by_param.setdefault(param, []).append((field, param))
    shared = [key for key in entries if key[1] is None]
    source: dict[int, int] = {}
    votes = dict.fromkeys(nodes, 0)
    for keys in by_param.values():
        node = next((node for node in nodes if fits(old[node], keys)), None)
        if node is not None:
            votes[node] += 1
            source |= {entries[key]: old[node][key] for key in keys}
    if by_param:
        nodes = sorted((n for n in nodes if votes[n]), key=votes.__getitem__, reverse=True)
    else:  # all parameters share it: rather a node that has nothing else
        nodes.sort(key=lambda node: {field for field, _ in old[node]} != fields)
    node = next((node for node in nodes if fits(old[node], shared)), None)
    return source if node is None else source | {entries[key]: old[node][key] for key in shared}


def _likeness(path: tuple[str, ...], node: tuple[str, ...], new: Any, old: Any) -> tuple[Any, ...]:
    """How well an old node suits a new one: by the labels on the way to it, then by its place."""
    labels = [[x for x in way if not x.isdigit()] for way in (path, node)]
    return _common(*labels), _rank(path, new) == _rank(node, old), path == node


def _rank(path: tuple[str, ...], nodes: dict[tuple[str, ...], Entries]) -> int:
    """The position of a node among those with the same fields."""
    fields = {field for field, _ in nodes[path]}
    alike = [node for node, own in nodes.items() if {field for field, _ in own} == fields]
    return alike.index(path)


def _common(a: list[str], b: list[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        above, row = row, [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
    return row[-1]


def _alike(a: Any, b: Any) -> bool:
    complex_ = [jnp.issubdtype(x.dtype, jnp.complexfloating) for x in (a, b)]
    return np.shape(a) == np.shape(b) and complex_[0] == complex_[1]

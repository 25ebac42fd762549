"""A state as a table of nodes, in which `migrate` looks up arrays.

A state is a tree of nodes, which are mostly NamedTuples. A field of a node holds one array, which all
parameters share, or a tree with one array per parameter.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._core.trees import PyTree, path_string, paths
from gradtx._transforms.accumulators import CenteredMomentState

Path = tuple[str, ...]
Entry = tuple[str, str | None]  # a field, and the path of the parameter, or None for all parameters
Entries = dict[Entry, int]  # which leaf each entry is


class Nodes(NamedTuple):
    """The nodes of a state.

    Attributes:
        nodes: for each node, by its path, which leaf each of its entries is.
        leaves: the arrays of the state.
        names: the paths of the arrays.
        kinds: the names of the classes of the nodes that are NamedTuples.
        from_torch: whether the state is one of PyTorch.
    """

    nodes: dict[Path, Entries]
    leaves: list[Any]
    names: list[str]
    kinds: dict[Path, str]
    from_torch: bool = False

    def fields(self, path: Path) -> set[str]:
        """The names of the fields of one node."""
        return {field for field, _ in self.nodes[path]}

    def scalar(self, path: Path, field: str) -> int | None:
        """Which leaf a field is that all parameters share, or None if the node does not have it."""
        # If the parameters are a single array, whose path is empty, every field seems to belong to it.
        entries = self.nodes[path]
        return entries.get((field, None), entries.get((field, "")))


def nodes_of(state: PyTree, known: set[str]) -> Nodes:
    """The nodes of a state of gradtx or of Optax.

    Args:
        state: the state. A dictionary with the names of a NamedTuple is taken for one, since a
            checkpoint that is restored without a target has such dictionaries.
        known: the paths of the parameters.
    """
    names = [
        name
        for name, x in zip(paths(state), _leaves_with_none(state), strict=True)
        if x is not None
    ]
    state = translated(state)
    flat = jax.tree_util.tree_leaves_with_path(state)
    nodes: dict[Path, Entries] = {}
    for i, ((keys, _), name) in enumerate(zip(flat, names, strict=True)):
        at, param = _field(keys, name, known)
        node = tuple(path_string((key,)) for key in keys[: at - 1])
        nodes.setdefault(node, {})[path_string(keys[at - 1 : at]), param] = i
    return Nodes(nodes, [x for _, x in flat], names, dict(_kinds(state)))


def _field(keys: tuple[Any, ...], name: str, known: set[str]) -> tuple[int, str | None]:
    """How many keys of a leaf's path lead to its field, and the path of its parameter, or None."""
    for kind in (jax.tree_util.GetAttrKey, jax.tree_util.DictKey):
        for j in range(1, len(keys) + 1):  # the longest end of the path that is a parameter's
            end = name[len(path_string(keys[:j])) + 1 :]
            if isinstance(keys[j - 1], kind) and end in known:
                return j, end
    return len(keys), None


def translated(state: PyTree) -> PyTree:
    """The state with gradtx's class and contents where Optax has other contents under the same names.

    A centered second moment of Optax is the average of squares, and gradtx's is the variance.
    """

    def translate(node: Any) -> Any:
        return centered(*node) if isinstance(node, optax.ScaleByRStdDevState) else node

    return jax.tree.map(
        translate, state, is_leaf=lambda x: isinstance(x, optax.ScaleByRStdDevState)
    )


def centered(mu: PyTree, nu: PyTree) -> CenteredMomentState:
    """The state of `centered_second_moment` from the averages of the gradients and of their squares."""

    def variance(m: Any, v: Any) -> Any:
        if isinstance(v, jax.ShapeDtypeStruct):
            return v
        m, v = jnp.asarray(m), jnp.asarray(v)
        return jnp.maximum(v - jnp.square(jnp.abs(m)).astype(v.dtype), jnp.zeros_like(v))

    return CenteredMomentState(mu, jax.tree.map(variance, mu, nu))


def _kinds(node: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        yield path, type(node).__name__
        items = zip(node._fields, node, strict=True)  # pyright: ignore
    elif isinstance(node, dict):
        items = ((str(name), x) for name, x in node.items())
    elif isinstance(node, tuple | list):
        items = ((str(i), x) for i, x in enumerate(node))
    else:
        return
    for name, x in items:
        yield from _kinds(x, (*path, name))


def _leaves_with_none(state: PyTree) -> list[Any]:
    return jax.tree.leaves(state, is_leaf=lambda x: x is None)

"""Which array of an old state each array of a new one is taken from.

The arrays are looked up node by node. A node of the old state fits if it has the fields of the new one.
"""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._training.nodes import Entry, Nodes, Path

# Fields that a node may have in gradtx and not in Optax. They start as `init` makes them.
_ADDED = {"last_learning_rate", "gave_up"}
# Nodes that have one of these fields have a `count` of something other than the steps of the run.
_OTHER_COUNTS = {"plateau_count", "deviation", "cooldown_count"}


class Matching:
    """Finds for every array of a new state which leaf of an old state it is taken from.

    Args:
        new: the nodes of the new state.
        old: the nodes of the old state.

    Attributes:
        source: for each leaf of the new state that is taken over, the leaf of the old state.
        notes: sentences about what a reader of the report should know.
    """

    def __init__(self, new: Nodes, old: Nodes) -> None:
        self.new, self.old = new, old
        self.source: dict[int, int] = {}
        self.notes: list[str] = []
        for path in new.nodes:
            self._match(path)
        for path in new.nodes:
            self._continue_counter(path)

    def _match(self, path: Path) -> None:
        """Match the arrays of one node: those of each parameter together, and then the shared ones."""
        entries, old = self.new.nodes[path], self.old.nodes
        by_param: dict[str, list[Entry]] = {}
        for field, param in entries:
            if param is not None:
                by_param.setdefault(param, []).append((field, param))
        shared = [key for key in entries if key[1] is None]
        if path[-1:] == ("hyperparams",):
            for key in shared:  # every hyperparameter is carried over by itself
                self._take_first(path, [key], self._candidates(path, {key[0]}))
            return
        candidates = self._candidates(path, self.new.fields(path) - _ADDED)
        votes = dict.fromkeys(candidates, 0)
        for keys in by_param.values():
            if (node := self._take_first(path, keys, candidates)) is not None:
                votes[node] += 1
        if by_param:
            candidates = sorted((n for n in candidates if votes[n]), key=votes.__getitem__)[::-1]
            self._note_counters(path, shared, candidates)
        else:  # all parameters share it: rather a node that has nothing else
            candidates.sort(key=lambda node: self.old.fields(node) != self.new.fields(path))
        taken = [key for key in shared if key[0] not in _ADDED]
        node = self._take_first(path, taken, candidates)
        if node is not None:
            added = [key for key in shared if key[0] in _ADDED and key in old[node]]
            self._take_first(path, added, [node])

    def _candidates(self, path: Path, fields: set[str]) -> list[Path]:
        """The nodes of the old state that have these fields, the likeliest one first."""

        def is_centered(kinds: dict[Path, str], node: Path) -> bool:
            return kinds.get(node) == "CenteredMomentState"

        nodes = [node for node in self.old.nodes if fields <= self.old.fields(node)]
        if "nu" in fields:  # the variance or the average of squares
            wanted = is_centered(self.new.kinds, path)
            nodes = [node for node in nodes if is_centered(self.old.kinds, node) == wanted]
        if "trace" in fields and self.old.from_torch and nodes and self._includes_rate(path):
            self.notes.append(
                f"`{'/'.join(path)}/trace` includes the learning rate, and PyTorch's momentum does not. "
                'Make the optimizer with `convention="torch"` to carry it over.'
            )
            return []
        return sorted(nodes, key=lambda node: self._likeness(path, node), reverse=True)

    def _includes_rate(self, path: Path) -> bool:
        """Whether the link of a chain stands behind the learning rate."""
        if not path or not path[-1].isdigit():
            return False
        links = [(*path[:-1], str(i)) for i in range(int(path[-1]))]
        return any(self.new.kinds.get(link) == "LearningRateState" for link in links)

    def _take_first(self, path: Path, keys: list[Entry], candidates: Iterable[Path]) -> Path | None:
        """Take these entries from the first candidate that has them all in the right shapes."""
        entries = self.new.nodes[path]
        for node in candidates:
            other = self.old.nodes[node]
            if all(
                key in other and _alike(self.new.leaves[entries[key]], self.old.leaves[other[key]])
                for key in keys
            ):
                self.source |= {entries[key]: other[key] for key in keys}
                return node
        return None

    def _note_counters(self, path: Path, shared: list[Entry], nodes: list[Path]) -> None:
        """Note that the counters of the nodes that come together here differ."""
        for key in shared:
            found = [
                self.old.leaves[self.old.nodes[n][key]] for n in nodes if key in self.old.nodes[n]
            ]
            if len(found) < 2 or any(
                isinstance(x, Tracer) or not hasattr(x, "__array__") for x in found
            ):
                continue
            counts = [np.asarray(x).tolist() for x in found]
            if len({*map(str, counts)}) > 1:
                self.notes.append(
                    f"`{'/'.join((*path, key[0]))}` is {counts[0]}, from the group with most of the "
                    f"parameters; in other groups it was {', '.join(map(str, counts[1:]))}."
                )

    def _continue_counter(self, path: Path) -> None:
        """Let the step of a schedule go on where the old state has a counter under another name.

        Optax's learning rate has no counter if it is a number, and gradtx's always has one.
        """
        fields = self.new.fields(path)
        name = "step" if fields == {"step", "last_learning_rate"} else "count"
        at = self.new.scalar(path, name)
        if (name == "count" and fields != {"count"}) or at is None or at in self.source:
            return
        for field in ("step", "count", "gradient_step"):
            found: dict[Path, int] = {}
            for node in self.old.nodes:
                i = self.old.scalar(node, field)
                if i is None or self.old.fields(node) & _OTHER_COUNTS:
                    continue
                if _alike(self.new.leaves[at], self.old.leaves[i]):
                    found[node] = i
            if found:
                alone = [node for node in found if self.old.fields(node) == {field}]
                near = self._neighbors(path)
                best = max(
                    alone or found,
                    key=lambda node: (node[:-1] in near, self._likeness(path, node)[0]),
                )
                self.source[at] = found[best]
                return

    def _neighbors(self, path: Path) -> set[Path]:
        """The places in the old state that the arrays beside a node of the new state come from."""
        beside = {
            self.source[i]
            for node, entries in self.new.nodes.items()
            if node[: len(path) - 1] == path[:-1]
            for i in entries.values()
            if i in self.source
        }
        return {
            node[:-1] for node, own in self.old.nodes.items() if not beside.isdisjoint(own.values())
        }

    def _likeness(self, path: Path, node: Path) -> tuple[Any, ...]:
        """How well an old node suits a new one: by the labels on the way to it, then by its place."""
        labels = [[x for x in way if not x.isdigit()] for way in (path, node)]
        return _common(*labels), _rank(path, self.new) == _rank(node, self.old), path == node


def _rank(path: Path, nodes: Nodes) -> int:
    """The position of a node among those with the same fields."""
    fields = nodes.fields(path)
    return [node for node in nodes.nodes if nodes.fields(node) == fields].index(path)


def _common(a: list[str], b: list[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        above, row = row, [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
    return row[-1]


def _alike(a: Any, b: Any) -> bool:
    """Whether two arrays have the same shape, and are both real or both complex."""
    complex_ = [jnp.issubdtype(jnp.result_type(x), jnp.complexfloating) for x in (a, b)]
    return np.shape(a) == np.shape(b) and complex_[0] == complex_[1]

"""Rules: what decides, leaf by leaf, which transformation it goes to or whether a mask takes it in.

A rule decides from a leaf's path (`layers/0/attention/kernel`) and its shape. Rules that are values
(`by_path`, `by_rank`) print, compare and pickle with the optimizer. Any function of `(path, leaf)` is
a rule too, and so is what Optax takes: a tree of labels, or a function from the tree to one.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from gradtx._core.trees import PyTree, flatten, is_none, paths
from gradtx._core.values import Value


class by_path(Value):
    """A rule: the label of the first pattern that is found in the path, else `otherwise`.

    Args:
        patterns: label by regular expression, which is searched in paths like
            `layers/0/attention/kernel`.
        otherwise: the label of all else.

    >>> import gradtx
    >>> rule = gradtx.by_path({"embed|head": "adamw", r"bias$": "adamw"}, otherwise="muon")
    >>> rule("layers/0/kernel", None), rule("layers/0/bias", None)
    ('muon', 'adamw')
    """

    patterns: Any
    otherwise: Any = None

    def validate(self) -> None:
        if not isinstance(self.patterns, Mapping):
            raise TypeError(
                f"`by_path(patterns=...)` must map patterns to labels: {self.patterns!r}."
            )

    def __call__(self, path: str, leaf: Any) -> Any:
        hits = (label for pattern, label in self.patterns.items() if re.search(pattern, path))
        return next(hits, self.otherwise)


class by_rank(Value):
    """A rule: whether a leaf has at least `rank` axes. `by_rank(2)` leaves out biases and gains.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.by_rank(2)("kernel", jnp.ones((4, 8))), gradtx.by_rank(2)("bias", jnp.ones(8))
    (True, False)
    """

    rank: int

    def __call__(self, path: str, leaf: Any) -> bool:
        return len(leaf.shape) >= self.rank


class label_tree:
    """A tree of labels or bools, as an object that hashes, for static fields."""

    def __init__(self, tree: PyTree) -> None:
        plain = jax.tree.map(lambda x: x.item() if isinstance(x, np.generic) else x, tree)
        leaves, structure = jax.tree.flatten(plain, is_leaf=is_none)
        self.tree, self.key = plain, (structure, tuple(leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, label_tree) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return repr(self.tree)


def as_rule(rule: Any) -> Any:
    """`rule` for a static field: functions and rules as they are, trees of labels hashable."""
    plain = rule is None or isinstance(rule, bool | label_tree) or callable(rule)
    return rule if plain else label_tree(rule)


def label_leaves(rule: Any, tree: PyTree, where: str) -> list[Any]:
    """The label of every leaf of `flatten(tree)`, None for leaves that are None."""
    leaves, _ = flatten(tree)
    if isinstance(rule, label_tree):
        rule = rule.tree
    elif not _takes_path(rule):
        rule = rule(tree)
    if callable(rule):
        return [None if x is None else rule(p, x) for p, x in zip(paths(tree), leaves, strict=True)]
    labels: list[Any] = []
    try:  # a tree of labels, which may be a prefix of the parameters'
        jax.tree.map(
            lambda y, sub: labels.extend([y] * len(flatten(sub)[0])), rule, tree, is_leaf=is_none
        )
    except ValueError as error:
        raise ValueError(
            f"`{where}`: the tree of labels does not fit the parameters: {error}"
        ) from None
    return [None if x is None else y for x, y in zip(leaves, labels, strict=True)]


def mask_leaves(mask: Any, tree: PyTree, where: str) -> list[bool]:
    """For every leaf of `flatten(tree)` whether `mask` takes it in."""
    if isinstance(mask, bool):
        return [mask] * len(flatten(tree)[0])
    labels = label_leaves(mask, tree, f"{where}(mask=...)")
    if words := [label for label in labels if isinstance(label, str)]:
        raise TypeError(
            f"`{where}(mask=...)` says {words[0]!r} of a leaf; it must be True or False."
        )
    return [bool(label) for label in labels]


def _takes_path(rule: Any) -> bool:
    if isinstance(rule, Value):
        return True
    required = [
        p
        for p in inspect.signature(rule).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) == 2

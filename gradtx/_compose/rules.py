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

from gradtx._core.latex import escape
from gradtx._core.lowering import Lowering
from gradtx._core.static import show
from gradtx._core.trees import PyTree, is_none, paths
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
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`by_path(patterns=...)`: {pattern!r} is not a regular expression ({error})."
                ) from None

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

    def validate(self) -> None:
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or self.rank < 0:
            raise TypeError(f"`by_rank(rank={self.rank!r})` must be a whole number, 0 or more.")

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
    if rule is None or isinstance(rule, bool | label_tree | Value):
        return rule
    # A tree of labels may itself be callable (an Equinox module): its leaves decide.
    leaves = jax.tree.leaves(rule)
    of_labels = bool(leaves) and all(isinstance(x, bool | np.bool_ | str | int) for x in leaves)
    return label_tree(rule) if of_labels or not callable(rule) else rule


def as_mask(mask: Any) -> Any:
    """`mask` for a static field, like `as_rule`; 0 and 1 count as False and True."""
    rule = as_rule(mask)
    if isinstance(rule, label_tree):
        return label_tree(jax.tree.map(_as_bool, rule.tree))
    return rule


def _as_bool(x: Any) -> Any:
    return bool(x) if x in (0, 1) else x


def label_leaves(rule: Any, low: Lowering, where: str) -> list[Any]:
    """The label of every parameter, None for leaves that are None."""
    if not low.leaves:
        return []  # also for what stands in for a tree and has no leaves, as in Optax's `map_params`
    if not isinstance(rule, label_tree) and not _takes_path(rule):
        rule = as_rule(rule(low.tree(low.leaves)))
    if isinstance(rule, label_tree):
        return _spread(rule.tree, low, where)
    pairs = zip(low.paths, low.leaves, strict=True)
    return [None if x is None else rule(path, x) for path, x in pairs]


def _spread(labels: PyTree, low: Lowering, where: str) -> list[Any]:
    """The labels of a tree, which may be a prefix of the parameters'."""
    found: list[Any] = []
    numbered = low.tree(list(range(len(low.leaves))))
    try:
        jax.tree.map(
            lambda label, sub: found.extend([label] * len(jax.tree.leaves(sub))),
            labels,
            numbered,
            is_leaf=is_none,
        )
    except ValueError:
        have = {*_label_paths(labels)}
        missing = [path for path in low.paths if not any(_begins(path, own) for own in have)]
        extra = [own for own in have if not any(_begins(path, own) for path in low.paths)]
        raise ValueError(
            f"`{where}`: the tree of labels does not fit the parameters; "
            + (f"it has no label for `{missing[0]}`. " if missing else "")
            + (f"it has a label for `{sorted(extra)[0]}`, which is not there. " if extra else "")
            + "Pass one label for each parameter, or for a subtree."
        ) from None
    return [None if x is None else y for x, y in zip(low.leaves, found, strict=True)]


def _label_paths(labels: PyTree) -> list[str]:
    return paths(labels)


def _begins(path: str, start: str) -> bool:
    return not start or path == start or path.startswith(f"{start}/")


def mask_leaves(mask: Any, low: Lowering, where: str) -> list[bool]:
    """For every parameter whether `mask` takes it in."""
    if isinstance(mask, bool):
        return [mask] * len(low.leaves)
    labels = label_leaves(mask, low, f"{where}(mask=...)")
    if words := [label for label in labels if isinstance(label, str)]:
        raise TypeError(
            f"`{where}(mask=...)` says {words[0]!r} of a leaf; it must say True or False."
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


def rule_name(rule: Any) -> str:
    """A rule or mask in a word, for an equation."""
    text = show(rule)
    return escape(text if re.fullmatch(r"\w+(\([\w.]*\))?", text) else "mask")

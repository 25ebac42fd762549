"""Rules, which give each leaf a label for `partition` or a bool for a mask.

A rule is a function of the path of a leaf, such as `layers/0/attention/kernel`, and of the leaf, of
which it may read the shape. The rules `by_path` and `by_rank` are values, so they print, compare and
pickle with the optimizer. In place of a rule, a tree of labels or a function from the parameters to such
a tree is accepted, as in Optax.
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
    """A rule that gives a leaf the label of the first pattern that is found in the leaf's path.

    Args:
        patterns: a mapping from regular expressions to labels. The expressions are searched, in this
            order, in paths such as `layers/0/attention/kernel`.
        otherwise: the label of a leaf in whose path none of the patterns is found.

    Raises:
        TypeError: if `patterns` is not a mapping.
        ValueError: if a pattern is not a regular expression.

    >>> import gradtx
    >>> rule = gradtx.by_path({"embed|head": "adamw", r"bias$": "adamw"}, otherwise="muon")
    >>> rule("layers/0/kernel", None), rule("layers/0/bias", None)
    ('muon', 'adamw')
    """

    patterns: Mapping[str, Any]
    otherwise: Any = None

    def validate(self) -> None:
        if not isinstance(self.patterns, Mapping):
            raise TypeError(
                f"`by_path(patterns=...)` must be a mapping from patterns to labels, not "
                f"{self.patterns!r}."
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
    """A rule that says whether a leaf has at least `rank` axes.

    `by_rank(2)` is False for biases and for the gains of normalization layers.

    Args:
        rank: the smallest number of axes for which the rule says True; a whole number, 0 or more.

    Raises:
        TypeError: if `rank` is not a whole number, 0 or more.

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
    """A tree of labels or bools, wrapped so that it is hashable and can be a static field."""

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
    """`rule` as a static field stores it: a tree of labels is wrapped, all else is unchanged."""
    if rule is None or isinstance(rule, bool | label_tree | Value):
        return rule
    # A tree of labels may itself be callable, if it is an Equinox module, so its leaves are looked at.
    leaves = jax.tree.leaves(rule)
    of_labels = bool(leaves) and all(isinstance(x, bool | np.bool_ | str | int) for x in leaves)
    return label_tree(rule) if of_labels or not callable(rule) else rule


def as_mask(mask: Any) -> Any:
    """`mask` as a static field stores it, see `as_rule`; 0 and 1 count as False and True."""
    rule = as_rule(mask)
    if isinstance(rule, label_tree):
        return label_tree(jax.tree.map(_as_bool, rule.tree))
    return rule


def _as_bool(x: Any) -> Any:
    return bool(x) if x in (0, 1) else x


def label_leaves(rule: Any, low: Lowering, where: str) -> list[Any]:
    """The label of every parameter; None for leaves that are None."""
    if not low.leaves:
        return []  # Optax's `map_params` calls `init` with a placeholder that has no leaves
    if not isinstance(rule, label_tree) and not _takes_path(rule):
        rule = as_rule(rule(low.tree(low.leaves)))
    if isinstance(rule, label_tree):
        return _broadcast(rule.tree, low, where)
    pairs = zip(low.paths, low.leaves, strict=True)
    return [None if x is None else rule(path, x) for path, x in pairs]


def _broadcast(labels: PyTree, low: Lowering, where: str) -> list[Any]:
    """The label of every parameter, from a tree that may be a prefix of the parameters' tree."""
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
        have = {*paths(labels)}
        missing = [path for path in low.paths if not any(_begins(path, own) for own in have)]
        extra = [own for own in have if not any(_begins(path, own) for path in low.paths)]
        raise ValueError(
            f"`{where}`: the tree of labels does not fit the parameters: "
            + (f"it has no label for `{missing[0]}`. " if missing else "")
            + (
                f"it has a label for `{sorted(extra)[0]}`, which is not a parameter. "
                if extra
                else ""
            )
            + "Pass one label for each parameter or subtree of parameters."
        ) from None
    return [None if x is None else y for x, y in zip(low.leaves, found, strict=True)]


def _begins(path: str, start: str) -> bool:
    return not start or path == start or path.startswith(f"{start}/")


def mask_leaves(mask: Any, low: Lowering, where: str) -> list[bool]:
    """For every parameter, whether it is inside the mask."""
    if isinstance(mask, bool):
        return [mask] * len(low.leaves)
    labels = label_leaves(mask, low, f"{where}(mask=...)")
    if words := [label for label in labels if isinstance(label, str)]:
        raise TypeError(
            f"`{where}(mask=...)` gives {words[0]!r} for a leaf; a mask must give True or False."
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
    """A short name of a rule or mask, for an equation."""
    text = show(rule)
    return escape(text if re.fullmatch(r"\w+(\([\w.]*\))?", text) else "mask")

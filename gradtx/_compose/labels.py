"""The labels of leaves: what `partition` and the masks make of a rule and the parameters.

A rule is a function of the path of a leaf, such as `layers/0/attention/kernel`, and of the leaf, of
which it may read the shape (`rules.py`). In place of a rule, a tree of labels or a function from the
parameters to such a tree is accepted, as in Optax.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax

from gradtx._compose.rules import Rule, positional
from gradtx._core.authors import described
from gradtx._core.latex import escape
from gradtx._core.lowering import Lowering
from gradtx._core.static import show
from gradtx._core.trees import PyTree, is_none, paths
from gradtx._core.values import Value


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


def as_rule(rule: Any, argument: str = "param_labels") -> Any:
    """`rule` as a static field stores it: a tree of labels is wrapped, all else is unchanged.

    Args:
        rule: the rule.
        argument: the name of the argument that it was passed as, for the error.

    Raises:
        TypeError: if `rule` is a class or a generator, or a function of other arguments than a rule's.
    """
    if rule is None or isinstance(rule, bool | label_tree | Rule):
        return rule
    if isinstance(rule, type | Iterator) or (
        isinstance(rule, Value) and not (callable(rule) and positional(rule) == 2)
    ):
        raise TypeError(
            f"`{argument}` must be a rule `(path, leaf)`, a tree with one entry per leaf, or a function "
            f"from the parameters to such a tree, not {described(rule)}."
        )
    # A tree of labels may itself be callable, if it is an Equinox module, so its leaves are looked at.
    leaves = jax.tree.leaves(rule)
    of_labels = bool(leaves) and all(isinstance(x, bool | np.bool_ | str | int) for x in leaves)
    if of_labels or not callable(rule):
        return label_tree(rule)
    _takes_path(rule, argument)
    return rule


def as_mask(mask: Any) -> Any:
    """`mask` as a static field stores it, see `as_rule`; 0 and 1 count as False and True.

    Raises:
        TypeError: if `mask` is neither a rule nor a tree of bools, or if it is a rule that gives labels.
    """
    rule = as_rule(mask, "mask")
    if isinstance(rule, Rule) and not rule.says_bools:
        raise TypeError(
            f"`mask` must give True or False for every leaf, and `{rule}` gives labels."
        )
    if not isinstance(rule, label_tree):
        return rule
    tree = jax.tree.map(_as_bool, rule.tree)
    if wrong := [x for x in jax.tree.leaves(tree) if not isinstance(x, bool)]:
        raise TypeError(
            "`mask` must be a rule `(path, leaf) -> bool`, a tree of bools, or a function from the "
            f"parameters to such a tree; {described(wrong[0])} is none of these."
        )
    return label_tree(tree)


def _as_bool(x: Any) -> Any:
    return bool(x) if isinstance(x, int) and x in (0, 1) else x


def label_leaves(rule: Any, low: Lowering, where: str) -> list[Any]:
    """The label of every parameter; None for leaves that are None.

    Raises:
        ValueError: if a tree of labels does not fit, or if a pattern of the rule matches no parameter.
        TypeError: if a function returns neither a rule nor a tree of labels.
    """
    if not low.leaves:
        return []  # Optax's `map_params` calls `init` with a placeholder that has no leaves
    if not isinstance(rule, label_tree) and not _takes_path(rule):
        labels = as_rule(rule(low.tree(low.leaves)))
        rule = label_tree(labels) if isinstance(labels, bool) else labels
        if not isinstance(rule, label_tree) and not callable(rule):
            raise TypeError(
                f"`{where}`: the function returned {described(rule)}. It must return a tree with one "
                "label for each parameter or subtree of parameters."
            )
    if isinstance(rule, label_tree):
        return _broadcast(rule.tree, low, where)
    check_patterns(rule, low, where)
    pairs = zip(low.paths, low.leaves, strict=True)
    return [None if x is None else rule(path, x) for path, x in pairs]


def check_patterns(rule: Any, low: Lowering, where: str) -> None:
    """Refuse a rule one of whose patterns matches no parameter.

    The whole tree decides. It has a leaf, which may be None, for every parameter, also where only a part
    of the parameters is updated. Optax's wrappers put `MaskedNode()` in place of the parameters that
    they leave out. Their paths are not known then, so nothing is checked.

    Raises:
        ValueError: if a pattern that is not optional matches no path.
    """
    if not isinstance(rule, Rule) or low.leaves.count(None) == len(low.leaves):
        return
    # The names in the structure are searched first, because JAX asks `_is_left_out` at every node.
    if optax.MaskedNode.__name__ in str(low.structure):
        nodes = jax.tree.leaves(low.tree(low.leaves), is_leaf=_is_left_out)
        if any(map(_is_left_out, nodes)):
            return
    try:
        rule.check_paths(low.paths)
    except ValueError as error:
        raise ValueError(f"`{where}`: {error}") from None


def _is_left_out(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


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
        problems = [f"it has no label for `{path}`" for path in missing[:1]]
        problems += [
            f"it has a label for `{own}`, which is not a parameter" for own in sorted(extra)[:1]
        ]
        raise ValueError(
            f"`{where}`: the tree of labels does not fit the parameters: {', and '.join(problems)}. "
            "Pass one label for each parameter or subtree of parameters."
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


def _takes_path(rule: Any, argument: str = "rule") -> bool:
    """Whether a function is one of `(path, leaf)`, and not one of the parameters.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(rule, Rule):
        return True
    signature = inspect.signature(rule)
    required = [
        p
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    try:
        signature.bind(*[None] * (2 if len(required) == 2 else 1))
    except TypeError:
        raise TypeError(
            f"`{argument}` takes the two arguments `(path, leaf)`, or one argument, the parameters; "
            f"`{show(rule)}{signature}` takes neither."
        ) from None
    return len(required) == 2


def rule_name(rule: Any) -> str:
    """A short name of a rule or mask, for an equation."""
    text = show(rule)
    return escape(text if re.fullmatch(r"\w+(\([\w.]*\))?", text) else "mask")

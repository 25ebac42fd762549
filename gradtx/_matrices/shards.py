"""Leaves inside `shard_map` that a rule knows to be parts of larger arrays (`laid_out`)."""

from collections.abc import Iterable
from typing import Any

from gradtx._matrices.axes import MatrixRule
from gradtx._matrices.laid_out import laid_out


def whole_leaf(rule: MatrixRule, path: str, leaf: Any) -> tuple[MatrixRule, Any]:
    """A rule that takes every leaf for whole, and the shape and dtype of the whole leaf.

    Args:
        rule: the rule that says which axes of a leaf are its matrix.
        path: the path of the leaf.
        leaf: the leaf, or the part of it that a device holds.
    """
    if not isinstance(rule, laid_out):
        return rule, leaf
    return rule.rule, rule.whole(path, leaf)


def refuse_part(rule: MatrixRule, path: str, leaf: Any, axes: Iterable[int] | None = None) -> None:
    """Raise if a device holds a part of one of these axes of a leaf, which has to be whole.

    Args:
        rule: as in `whole_leaf`.
        path: the path of the leaf.
        leaf: the leaf, or the part of it that a device holds.
        axes: the axes of the leaf that have to be whole; None means all.

    Raises:
        ValueError: if one of these axes is sharded over an axis of the `shard_map`.
    """
    whole = tuple(whole_leaf(rule, path, leaf)[1].shape)
    shape = tuple(leaf.shape)
    needed = set(range(len(shape)) if axes is None else axes)
    if any(k in needed and n != shape[k] for k, n in enumerate(whole)):
        raise ValueError(
            f"inside `shard_map` a device holds a part of `{path or '.'}`, of the shape {shape} of "
            f"{whole}, and a sum over this part is not the sum over the whole. Call the optimizer "
            "outside of `shard_map`."
        )

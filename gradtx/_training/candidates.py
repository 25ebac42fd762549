"""The optimizers that a sweep was given, and the hyperparameters in which they differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from gradtx._core.authors import described
from gradtx._core.fields import leaf_key
from gradtx._core.transform import Transform
from gradtx._training.batch import Candidates, plain


def candidates(txs: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """The optimizers of a batch, and the values of the hyperparameters in which they differ."""
    if isinstance(txs, Candidates):
        return list(txs), list(txs.settings)
    if isinstance(txs, Transform):
        found = _unstacked(txs)
    elif isinstance(txs, Iterable) and not isinstance(txs, str | Mapping) and not _is_pair(txs):
        found = list(txs)
    else:
        found = [txs]
    if wrong := [tx for tx in found if not _is_pair(tx)]:
        raise TypeError(
            f"`sweep(train, txs)` needs a `grid`, `samples` or a list of optimizers, not "
            f"{described(wrong[0])}."
        )
    if not found:
        raise ValueError("`sweep(train, txs)` needs at least one optimizer, and `txs` is empty.")
    return found, differences(found)


def _is_pair(tx: Any) -> bool:
    return hasattr(tx, "init") and hasattr(tx, "update") and not isinstance(tx, dict | type)


def _unstacked(tx: Any) -> list[Any]:
    """The optimizers in one whose numbers are arrays, each with its own entry of every array."""
    leaves, structure = jax.tree.flatten(tx)
    lengths = {x.shape[0] for x in leaves if np.ndim(x)}
    if len(lengths) > 1:
        raise ValueError(
            f"`sweep(train, {tx})`: the arrays in the optimizer have different lengths, "
            f"{sorted(lengths)}. Use `grid` for all combinations."
        )
    entries = ([plain(x[i]) if np.ndim(x) else x for x in leaves] for i in range(*lengths or [1]))
    return [structure.unflatten(row) for row in entries]


def differences(txs: Sequence[Any]) -> list[dict[str, Any]]:
    """For each optimizer of a list, the values of the hyperparameters in which they differ.

    A hyperparameter is called by its field, or by its path where several fields have the same name. If
    the optimizers differ in more than numbers, the optimizer itself is the only entry.
    """
    paths = [jax.tree_util.tree_leaves_with_path(tx) for tx in txs]
    alike = len({jax.tree.structure(tx) for tx in txs}) == 1
    if not alike or any(np.ndim(x) or callable(x) for path in paths for _, x in path):
        return [{"optimizer": tx} for tx in txs]
    varying = [
        path
        for column in zip(*paths, strict=True)
        for path in [column[0][0]]
        if len({leaf_key(x) for _, x in column}) > 1
    ]
    fields = [_field(path) for path in varying]
    names = {
        path: field if fields.count(field) == 1 else jax.tree_util.keystr(path).lstrip(".")
        for path, field in zip(varying, fields, strict=True)
    }
    return [{names[path]: plain(x) for path, x in leaves if path in names} for leaves in paths]


def _field(path: Any) -> str:
    named = [entry.name for entry in path if hasattr(entry, "name")]
    return named[-1] if named else jax.tree_util.keystr(path)

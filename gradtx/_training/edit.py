"""Editing optimizers, and stacking them into sweeps."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.transform import Transform
from gradtx._core.values import Value

T = TypeVar("T", bound=Value)


def replace(tx: T, **changes: Any) -> T:
    """A copy of `tx` in which every field with one of these names has the new value, at any depth.

    `replace(tx, learning_rate=1e-4)` changes the field `learning_rate` of every transformation inside a
    chain, partition or recipe. Where a transformation has the field, the transformations inside it stay
    unchanged: with `muon(0.02, auxiliary=adamw(3e-4))`, only the rate of `muon` changes. A dotted name
    restricts the change to a part of `tx`: `replace(tx, **{"adamw.learning_rate": 1e-4})` changes only
    what lies in a field, a label or a class that is called `adamw`.

    Args:
        tx: a transformation, rule or schedule of gradtx.
        changes: the new values by the names of their fields. They are validated as in the constructor.

    Raises:
        ValueError: if `tx` has no field of this name, or if a new value lies outside its interval.
        TypeError: if `tx` is not one of gradtx's values, or if a new value is of the wrong kind.

    >>> import gradtx
    >>> gradtx.replace(gradtx.adamw(1e-3), learning_rate=1e-4)
    adamw(0.0001)
    """
    _check_value("replace", tx)
    for dotted, value in changes.items():
        new, count = _replaced(tx, dotted.split("."), value)
        if not count:
            raise _no_field("replace", tx, dotted)
        tx = new
    return tx


def _no_field(function: str, tx: Any, name: str) -> ValueError:
    names = sorted({name for name, _ in _fields(tx)})
    fields = f"its fields are {', '.join(names)}" if names else "it has no fields"
    return ValueError(f"`{function}`: `{tx}` has no field `{name}`; {fields}.")


def _holds_value(x: Any) -> bool:
    inside = x.values() if isinstance(x, dict) else x if type(x) in (tuple, list) else ()
    return isinstance(x, Value) or any(map(_holds_value, inside))


def _check_value(function: str, tx: Any) -> None:
    if not _holds_value(tx):
        raise TypeError(
            f"`{function}(tx, ...)` needs a transformation, rule or schedule of gradtx, not "
            f"{described(tx)}."
        )


def _fields(node: Any) -> list[tuple[str, Any]]:
    """The names and the values of all fields in a value, at any depth."""
    found = []
    for name, value in _children(node):
        if isinstance(node, Value):
            found.append((name, value))
        found += _fields(value)
    return found


def _children(node: Any) -> list[tuple[str, Any]]:
    """The parts of a value, dictionary or tuple: their names and the parts themselves."""
    if isinstance(node, Value):
        return [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]  # pyright: ignore
    if isinstance(node, dict):
        return list(node.items())
    return [(str(i), x) for i, x in enumerate(node)] if type(node) is tuple else []


def _replaced(node: Any, path: list[str], value: Any) -> tuple[Any, int]:
    """A copy of `node` in which the fields at `path` have a new value, and how many these are."""
    if isinstance(node, Value) and len(path) > 1 and type(node).__name__ == path[0]:
        path = path[1:]
    # A field of the node hides those inside it: the rate of `muon` is not that of its auxiliary `adamw`.
    if isinstance(node, Value) and path in ([name] for name, _ in _children(node)):
        return dataclasses.replace(node, **{path[0]: value}), 1  # pyright: ignore
    changes, total = {}, 0
    for name, child in _children(node):
        rest = path[1:] if len(path) > 1 and path[0] == name else path
        changes[name], count = _replaced(child, rest, value)
        total += count
    if not total:
        return node, 0
    if isinstance(node, Value):
        return dataclasses.replace(node, **changes), total  # pyright: ignore
    return (type(node)(changes) if isinstance(node, dict) else tuple(changes.values())), total


def stack(txs: Iterable[T]) -> T:
    """Several transformations as one, whose numbers are arrays with one entry per transformation.

    A number that is the same in all transformations stays a number. Only if all transformations are
    equal, every number becomes an array. The result is for `jax.vmap`:
    `jax.vmap(train, in_axes=(axes(batch),))(batch)` trains once per transformation.

    Args:
        txs: a list of transformations of the same structure, which differ only in their numbers.

    Raises:
        ValueError: if `txs` is empty, or if the transformations differ in structure.
        TypeError: if `txs` is not a list of transformations.

    >>> import gradtx
    >>> gradtx.stack([gradtx.sgd(0.1), gradtx.sgd(0.2)]).learning_rate.shape
    (2,)
    """
    several = isinstance(txs, Iterable) and not isinstance(txs, str | Mapping | Transform)
    given = list(txs) if several else []
    if wrong := [tx for tx in given if not _holds_value(tx)] or ([] if several else [txs]):
        raise TypeError(
            f"`stack(txs)` needs a list of gradtx transformations, not {described(wrong[0])}."
        )
    if not given or len({jax.tree.structure(tx) for tx in given}) > 1:
        raise ValueError(
            "`stack(txs)` needs at least one transformation, and all must differ in numbers only; "
            f"it got {given!r}."
        )

    # Equal transformations differ in no number, and are a batch all the same.
    all_equal = all(tx == given[0] for tx in given)

    def join(*values: Any) -> Any:
        if not all_equal and all(isinstance(v, float) and v == values[0] for v in values):
            return values[0]
        return jnp.stack([jnp.asarray(v, float) for v in values])

    return jax.tree.map(join, *given)


def axes(tx: T, **names: int | None) -> T:
    """The `in_axes` with which `jax.vmap` maps over a batch of transformations.

    `axes(tx)` maps every array that is not a scalar over its first axis. `axes(tx, learning_rate=0)`
    maps only the arrays in the fields `learning_rate`, over their first axis.

    Args:
        tx: a transformation with arrays as numbers, such as `stack` makes it.
        names: the axis to map over, by the names of fields. None means that the field is not mapped.

    Raises:
        ValueError: if `tx` has no field of this name.
        TypeError: if `tx` is not one of gradtx's values.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> sweep = gradtx.sgd(jnp.array([0.1, 0.2]))
    >>> def step(tx):
    ...     return tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0]
    >>> jax.vmap(step, in_axes=(gradtx.axes(sweep, learning_rate=0),))(sweep)
    Array([-0.1, -0.2], dtype=float32)
    """
    _check_value("axes", tx)
    if not names:
        return jax.tree.map(lambda x: 0 if np.ndim(x) else None, tx)

    known = {name for name, _ in _fields(tx)}
    if unknown := sorted({*names} - known):
        raise _no_field("axes", tx, unknown[0])

    def mapped(path: Any, x: Any) -> Any:
        found = [names[key.name] for key in path if getattr(key, "name", None) in names]
        return found[-1] if found and np.ndim(x) else None

    return jax.tree_util.tree_map_with_path(mapped, tx)

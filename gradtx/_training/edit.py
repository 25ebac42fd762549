"""Using values: editing, stacking into sweeps, reading and writing states by name."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Value

T = TypeVar("T", bound=Value)


def replace(tx: T, **changes: Any) -> T:
    """A copy of `tx` in which every field of these names has the new value, however deep it lies.

    `replace(tx, learning_rate=1e-4)` changes every `learning_rate` in a chain, partition or recipe; a
    dotted path narrows (`replace(tx, **{"muon.learning_rate": 0.01})`: inside what the field, label or
    class name `muon` holds). The new value is validated. Raises `ValueError` where nothing matches.

    >>> import gradtx
    >>> gradtx.replace(gradtx.adamw(1e-3), learning_rate=1e-4)
    adamw(0.0001)
    """
    for dotted, value in changes.items():
        new, hits = _replaced(tx, dotted.split("."), value)
        if not hits:
            names = sorted({name for name, _ in _fields(tx)})
            raise ValueError(
                f"`replace`: `{tx}` has no field `{dotted}`; there are {', '.join(names)}."
            )
        tx = new
    return tx


def _fields(node: Any) -> list[tuple[str, Any]]:
    """Names and values of all fields in a value, at any depth."""
    found = []
    for name, value in _children(node):
        if isinstance(node, Value):
            found.append((name, value))
        found += _fields(value)
    return found


def _children(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, Value):
        return [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]  # pyright: ignore
    if isinstance(node, dict):
        return list(node.items())
    return [(str(i), x) for i, x in enumerate(node)] if type(node) is tuple else []


def _replaced(node: Any, path: list[str], value: Any) -> tuple[Any, int]:
    if isinstance(node, Value) and len(path) > 1 and type(node).__name__ == path[0]:
        path = path[1:]
    changes, hits = {}, 0
    for name, child in _children(node):
        if path == [name] and isinstance(node, Value):
            changes[name], count = value, 1
        else:
            rest = path[1:] if len(path) > 1 and path[0] == name else path
            changes[name], count = _replaced(child, rest, value)
        hits += count
    if not hits:
        return node, 0
    if isinstance(node, Value):
        return dataclasses.replace(node, **changes), hits  # pyright: ignore
    return (type(node)(changes) if isinstance(node, dict) else tuple(changes.values())), hits


def stack(txs: list[T]) -> T:
    """The transformations `txs`, equal but for their numbers, as one: numbers that differ (of equal
    ones, all) as arrays.

    For `jax.vmap` over optimizers: `jax.vmap(train, in_axes=(axes(batch),))(batch)`. Raises
    `ValueError` for an empty list or transformations of different structure.

    >>> import gradtx
    >>> gradtx.stack([gradtx.sgd(0.1), gradtx.sgd(0.2)]).learning_rate.shape
    (2,)
    """
    if not txs or len({jax.tree.structure(tx) for tx in txs}) > 1:
        raise ValueError(f"`stack` needs transformations that differ in numbers only, not {txs!r}.")

    # Equal ones are a batch too, of all their numbers.
    alike = all(tx == txs[0] for tx in txs)

    def join(*values: Any) -> Any:
        if not alike and all(isinstance(v, float) and v == values[0] for v in values):
            return values[0]
        return jnp.stack([jnp.asarray(v, float) for v in values])

    return jax.tree.map(join, *txs)


def axes(tx: T, **names: int | None) -> T:
    """The `in_axes` that go with a batch of transformations.

    Without names, every array with an axis is mapped over its first; `axes(tx, learning_rate=0)` says
    the arrays of which fields are mapped, and along which axis. Raises `ValueError` for a field that is
    not there.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> sweep = gradtx.sgd(jnp.array([0.1, 0.2]))
    >>> def step(tx):
    ...     return tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0]
    >>> jax.vmap(step, in_axes=(gradtx.axes(sweep, learning_rate=0),))(sweep)
    Array([-0.1, -0.2], dtype=float32)
    """
    if not names:
        return jax.tree.map(lambda x: 0 if np.ndim(x) else None, tx)

    known = {name for name, _ in _fields(tx)}
    if unknown := sorted({*names} - known):
        raise ValueError(
            f"`axes`: `{tx}` has no field `{unknown[0]}`; there are {', '.join(sorted(known))}."
        )

    def mapped(path: Any, x: Any) -> Any:
        hit = [names[key.name] for key in path if getattr(key, "name", None) in names]
        return hit[-1] if hit and np.ndim(x) else None

    return jax.tree_util.tree_map_with_path(mapped, tx)


def _named(state: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, bool]]:
    """Path and value of everything in a state that has a name, a NamedTuple's field or a dict's entry,
    and whether it is a field."""
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        items, named, field = zip(state._fields, state, strict=True), True, True  # pyright: ignore
    elif isinstance(state, dict):
        items, named, field = state.items(), True, False
    elif isinstance(state, tuple | list) and not isinstance(state, Transform):
        items, named, field = ((str(i), x) for i, x in enumerate(state)), False, False
    else:
        return []
    found = []
    for name, value in items:
        here = (*path, str(name))
        found += ([(here, value, field)] if named else []) + _named(value, here)
    return found


def _matches(state: Any, name: str) -> list[tuple[tuple[str, ...], Any]]:
    *narrow, last = name.split(".")

    def fits(path: tuple[str, ...]) -> bool:
        steps = iter(path[:-1])
        return path[-1] == last and all(any(step == want for step in steps) for want in narrow)

    named = [(path, value, field) for path, value, field in _named(state) if fits(path)]
    # A parameter may be called what a field is, and has an entry in every moment.
    fields = any(field for _, _, field in named)
    found = [(path, value) for path, value, field in named if field or not fields]
    if narrow and (exact := [x for x in found if x[0] == (*narrow, last)]):
        return exact
    if not found:
        names = sorted({path[-1] for path, _, _ in _named(state)})
        raise KeyError(f"The state has nothing named `{name}`; there are {', '.join(names)}.")
    return found


def get(state: PyTree, name: str) -> Any:
    """The entry of an optimizer's state by its name: `get(state, "mu")`.

    A dotted path narrows (`get(state, "muon.mu")`, `get(state, "0.count")`), a whole path is exact.
    Raises `KeyError` where nothing or more than one thing matches; the message lists the paths.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.get(gradtx.adam(1e-3).init({"w": jnp.ones(2)}), "nu")
    {'w': Array([0., 0.], dtype=float32)}
    """
    found = _matches(state, name)
    if len(found) > 1 and (exact := [x for x in found if ".".join(x[0]) == name]):
        return exact[0][1]
    if len(found) > 1:
        listed = ", ".join(".".join(path) for path, _ in found)
        raise KeyError(
            f"The state has several entries named `{name}`; narrow it to one of {listed}."
        )
    return found[0][1]


def set(state: PyTree, **values: Any) -> PyTree:
    """A copy of `state` in which every entry of these names has the one of `values`, in its old dtype.

    `set(state, **{"0.count": 0})` narrows by a dotted path. Raises `KeyError` where nothing matches,
    `ValueError` for a value of another structure or shape.

    >>> import gradtx, jax.numpy as jnp
    >>> state = gradtx.set(gradtx.adam(1e-3).init(jnp.ones(2)), mu=jnp.ones(2))
    >>> gradtx.get(state, "mu")
    Array([1., 1.], dtype=float32)
    """
    for name, value in values.items():
        targets = {path for path, _ in _matches(state, name)}
        state = _assigned(state, targets, value)
    return state


def _assigned(node: Any, targets: Any, value: Any, path: tuple[str, ...] = ()) -> Any:
    def child(name: Any, old: Any) -> Any:
        here = (*path, str(name))
        if here not in targets:
            return _assigned(old, targets, value, here)
        if jax.tree.structure(old) != jax.tree.structure(value):
            want = jax.tree.structure(old)
            raise ValueError(f"`set`: `{'.'.join(here)}` has the structure {want}; pass that.")
        return jax.tree.map(lambda o, v: _filled(o, v, ".".join(here)), old, value)

    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*(child(n, v) for n, v in zip(node._fields, node, strict=True)))  # pyright: ignore
    if isinstance(node, dict):
        return type(node)((n, child(n, v)) for n, v in node.items())
    if isinstance(node, tuple | list):
        return type(node)(child(i, v) for i, v in enumerate(node))
    return node


def _filled(old: Any, value: Any, where: str) -> jax.Array:
    if np.shape(value) != np.shape(old):
        raise ValueError(f"`set`: `{where}` has shape {np.shape(old)}, not {np.shape(value)}.")
    return jnp.asarray(value, old.dtype)

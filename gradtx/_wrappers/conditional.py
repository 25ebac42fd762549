"""One step of an inner transformation, or none: the part that wrappers of the kind "time" share.

If the condition is traced, both cases become the branches of one `lax.cond`, so that a step that is not
taken costs nothing. Under `jax.vmap`, a condition that depends on a mapped value makes JAX run both.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.branches import choose as choose
from gradtx._core.dtypes import cast, compute_dtype
from gradtx._core.numerics import shard_axes
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.varying import (
    counter as counter,
    deciding_axes as deciding_axes,
    over,
)


def init_inner(inner: Transform, params: PyTree, axes: frozenset[Any]) -> Any:
    """The state of `inner` before the first step.

    Args:
        inner: the transformation.
        params: the tree of parameters, with None for leaves that are passed over.
        axes: the mesh axes over which it differs whether a step is taken, so that the state varies.
    """
    leaves, structure = flatten(params)
    state = inner.program(leaves, structure).init(leaves)
    return jax.tree.map(lambda x: over(x, axes), state) if axes else state


def step_if(
    condition: jax.Array | bool,
    inner: Transform,
    updates: PyTree,
    state: Any,
    params: PyTree,
    extra: dict[str, Any],
    *,
    passes: bool = False,
) -> tuple[PyTree, Any]:
    """One step of `inner` if `condition` holds, and else updates of -0.0 and the same state.

    Args:
        condition: a boolean scalar.
        inner: the transformation.
        updates: the updates that `inner` is given, with None where a leaf is not updated.
        state: the state of `inner`.
        params: the tree of parameters, or None.
        extra: the further keyword arguments of `update`.
        passes: whether the updates pass unchanged, instead of being -0.0, if `condition` does not hold.
    """
    leaves, structure = flatten(updates)
    owners = None if params is None else structure.flatten_up_to(params)

    def step() -> tuple[list[Any], Any]:
        program = inner.program(leaves if owners is None else owners, structure)
        out, new = program.update(leaves, state, owners, extra)
        return [_as_float(*x) for x in zip(out, leaves, all_owners, strict=True)], new

    def skip() -> tuple[list[Any], Any]:
        kept = leaves if passes else [None if x is None else -jnp.zeros_like(x) for x in leaves]
        return [_as_float(*x) for x in zip(kept, leaves, all_owners, strict=True)], state

    all_owners = [None] * len(leaves) if owners is None else owners
    out, new = choose(condition, step, skip)
    return structure.unflatten(out), new


def all_finite(tree: PyTree, axis_name: Any = None) -> jax.Array:
    """Whether every entry of every array is finite, also on the other devices along `axis_name`."""
    kinds: dict[Any, list[jax.Array]] = {}
    for x in jax.tree.leaves(tree):
        kinds.setdefault(shard_axes(x, axis_name), []).append(~jnp.all(jnp.isfinite(x)))
    good = jnp.asarray(True)
    for axes, bad in kinds.items():
        any_bad = functools.reduce(jnp.logical_or, bad)
        if axes:
            any_bad = jax.lax.pmax(any_bad.astype(jnp.int32), axes) > 0
        good = good & ~any_bad
    return good


def _as_float(update: Any, given: Any, owner: Any) -> Any:
    """An update in the dtype that both branches return; None for a leaf that is not updated."""
    return None if given is None or update is None else cast(update, compute_dtype(given, owner))

"""Arrays on meshes: which axes are sharded, and over which mesh axes an array varies."""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer


def replicated(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """`x` replicated on all devices, and a function that gives an array the sharding of `x` again.

    On an Explicit mesh JAX refuses a matrix product over a sharded axis, because the sharding of its
    result is ambiguous. So the matrix is replicated first. On an Auto mesh and on one device, both
    results leave arrays unchanged.
    """
    sharding = jax.typeof(x).sharding
    if not is_sharded(x):
        return x, lambda y: y
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.sharding.reshard(x, whole), lambda y: jax.sharding.reshard(y, sharding)


def is_sharded(x: jax.Array) -> bool:
    """Whether an axis of `x` is sharded over an axis of an Explicit mesh."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def varying_axes(x: Any) -> frozenset[Any]:
    """The mesh axes over which `x` may differ between devices, inside `shard_map`."""
    return jax.typeof(x).manual_axis_type.varying if isinstance(x, Tracer) else frozenset()


def varying_like(x: jax.Array, *others: Any) -> jax.Array:
    """`x`, cast so that it varies over every mesh axis over which one of `others` varies."""
    axes: set[Any] = set()
    for other in others:
        if isinstance(other, Tracer):
            axes |= jax.typeof(other).manual_axis_type.varying
    axes -= varying_axes(x) if axes else axes
    return jax.lax.pcast(x, tuple(sorted(axes, key=str)), to="varying") if axes else x

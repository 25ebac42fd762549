"""Arrays on meshes: where a product over sharded axes is allowed."""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer


def replicated(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """`x` where products over its axes are allowed, and the way back to its own sharding.

    On an Explicit mesh a product over a sharded axis has no sharding of its own to give, so the matrix
    is gathered first. On an Auto mesh, and on one device, nothing is to be done.
    """
    sharding = jax.typeof(x).sharding
    if not is_sharded(x):
        return x, lambda y: y
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.sharding.reshard(x, whole), lambda y: jax.sharding.reshard(y, sharding)


def is_sharded(x: jax.Array) -> bool:
    """Whether an axis of `x` lies over an axis of an Explicit mesh."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def varying_axes(x: Any) -> frozenset[Any]:
    """The mesh axes over which `x` differs between devices, inside `shard_map`."""
    return jax.typeof(x).manual_axis_type.varying if isinstance(x, Tracer) else frozenset()


def varying_like(x: jax.Array, *others: Any) -> jax.Array:
    """`x`, cast to vary over every axis of the mesh over which one of the others varies."""
    axes: set[Any] = set()
    for other in others:
        if isinstance(other, Tracer):
            axes |= jax.typeof(other).manual_axis_type.varying
    axes -= varying_axes(x) if axes else axes
    return jax.lax.pcast(x, tuple(sorted(axes, key=str)), to="varying") if axes else x

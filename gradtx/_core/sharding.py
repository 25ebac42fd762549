"""Arrays on meshes: where a product over sharded axes is allowed."""

from collections.abc import Callable

import jax


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

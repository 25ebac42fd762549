"""Stages over several mesh axes, if the matrices of a stack have to be padded on the way.

The stack is padded before each stage to a multiple of the devices along one mesh axis, and cut to its
length again on the way back. So 80 matrices on 8 x 64 devices travel as 8 times 10 over the first mesh
axis, and as 64 over the second one. If they were padded to 512 at once, copies would travel as well.

Every stage has an axis of its own, `[8, 64, matrices, *matrix]`, so that no device pads what others
hold.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._matrices.hops import Rows


def spread_padded(
    mesh: Any, names: tuple[str, ...], arrays: list[Rows]
) -> tuple[list[Rows], list[int]]:
    """Stacks that are sharded over these mesh axes, and the length before each stage."""
    counts: list[int] = []
    for k, name in enumerate(names):
        count, size = arrays[0].shape[k], mesh.shape[name]
        counts.append(count)
        total = -(-count // size) * size
        if total != count:
            # Without the barrier, XLA moves padding past an exchange (`exchange.py`). Without the
            # constraint, it shards the axis that is padded, and passes entries from device to device.
            arrays = list(jax.lax.optimization_barrier([_padded(x, k, total) for x in arrays]))
            arrays = [_sharded(mesh, names[:k], x) for x in arrays]
        arrays = [x.reshape(*x.shape[:k], size, -1, *x.shape[k + 1 :]) for x in arrays]
        arrays = [_sharded(mesh, names[: k + 1], x) for x in arrays]
    return [x.reshape(-1, *x.shape[len(names) + 1 :]) for x in arrays], counts


def collected_padded(
    mesh: Any, names: tuple[str, ...], arrays: list[Rows], counts: list[int], *, pinned: bool
) -> list[Rows]:
    """The inverse of `spread_padded`.

    Args:
        mesh: the mesh.
        names: the mesh axes.
        arrays: the stacks.
        counts: the length before each stage.
        pinned: whether the stack was not sharded along its first axis.
    """
    sizes = [mesh.shape[name] for name in names]
    arrays = [x.reshape(*sizes, -1, *x.shape[1:]) for x in arrays]
    for k in reversed(range(len(names))):
        arrays = [x.reshape(*x.shape[:k], -1, *x.shape[k + 2 :]) for x in arrays]
        if k or pinned or counts[0] % sizes[0]:
            arrays = [_sharded(mesh, names[:k], x) for x in arrays]
        arrays = [jax.lax.slice_in_dim(x, 0, counts[k], axis=k) for x in arrays]
    return arrays


def _padded(x: Any, axis: int, total: int) -> Any:
    """`x` with its first entries along an axis repeated until there are `total`, as in `repeated`."""
    several = jnp.concatenate([x] * -(-total // x.shape[axis]), axis)
    return jax.lax.slice_in_dim(several, 0, total, axis=axis)


def _sharded(mesh: Any, names: tuple[str, ...], x: Any) -> Any:
    """`x` with its first axes sharded by these mesh axes, the next one whole, and the others free."""
    free = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - len(names) - 1)
    spec = PartitionSpec(*names, None, *free)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

"""Exchanges between devices, inside `shard_map`: from shards of every matrix to some whole matrices.

A *hop* goes over the mesh axes that shard one axis of the matrices. Before it, a device holds a part of
that axis of many matrices; after it, the device holds the whole axis of a share of these matrices. The
number of matrices must be a multiple of the number of devices in the hop.

    there   [batch, ..., part, ...]  ->  [batch / devices, ..., whole, ...]
    back    the other way round

Over mesh axes along which all devices hold the same (replicas), `there` takes a share of the batch
without any communication, and `back` gathers the results. All arrays of one dtype share one collective
operation.
"""

import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

Rows = Annotated[jax.Array, "_ ..."]  # one entry per matrix along the first axis
Held = Annotated[jax.Array, "..."]  # a leaf or an array of its state, or what a device holds of it


class Hop(NamedTuple):
    """The mesh axes of one exchange.

    Attributes:
        names: the names of the mesh axes.
        size: the number of devices along them.
        axes: for every array the axis that they shard, or None for an array that is replicated.
        typed: whether a replicated array has the type of one after `back`, as `shard_map` asks for. A
            sum has this type, and what is gathered has not.
        both: if both axes of the matrices become whole in this hop, how many devices share each.
    """

    names: tuple[str, ...]
    size: int
    axes: tuple[int | None, ...]
    typed: bool = False
    both: tuple[int, int] | None = None


def needed(hops: list[Hop], count: int) -> list[Hop]:
    """The hops without that over replicas, if a device would not get fewer of `count` matrices by it.

    The replicas then update the same matrices, which takes as long and sends less.
    """
    if hops and not any(axis is not None for axis in hops[0].axes):
        others = math.prod(hop.size for hop in hops[1:])
        if -(-count // others) == -(-count // (others * hops[0].size)):
            return hops[1:]
    return hops


def there(hop: Hop, arrays: list[Rows]) -> list[Rows]:
    """Bring together what the devices hold, for a share of the matrices."""
    if hop.both is not None:
        return [_there_at_once(hop, x) for x in arrays]
    out: list[Any] = list(arrays)
    share = len(arrays[0]) // hop.size
    for i, (x, axis) in enumerate(zip(arrays, hop.axes, strict=True)):
        if axis is None:
            start = jax.lax.axis_index(hop.names) * share
            out[i] = jax.lax.dynamic_slice_in_dim(x, start, share)
    for members in _by_dtype([i for i, axis in enumerate(hop.axes) if axis is not None], arrays):
        if len(members) == 1:
            (i,) = members
            out[i] = jax.lax.all_to_all(arrays[i], hop.names, 0, hop.axes[i], tiled=True)
            continue
        parts = [arrays[i] for i in members]
        sent = jnp.concatenate([x.reshape(len(x), -1) for x in parts], 1)
        received = jax.lax.all_to_all(sent, hop.names, 0, 0, tiled=True)
        for i, x, part in zip(members, parts, _columns(received, parts), strict=True):
            axis: Any = hop.axes[i]
            part = part.reshape(hop.size, share, *x.shape[1:])
            whole = [share, *x.shape[1:]]
            whole[axis] *= hop.size
            out[i] = jnp.moveaxis(part, 0, axis).reshape(whole)
    return out


def back(hop: Hop, arrays: list[Rows]) -> list[Rows]:
    """Give every device again its part of all matrices; the inverse of `there`."""
    if hop.both is not None:
        return [_back_at_once(hop, x) for x in arrays]
    out: list[Any] = list(arrays)
    summed = [i for i, axis in enumerate(hop.axes) if axis is None and hop.typed]
    for i in summed:
        x = arrays[i]
        start = jax.lax.axis_index(hop.names) * len(x)
        whole = jnp.zeros((hop.size * len(x), *x.shape[1:]), x.dtype)
        own = jax.lax.dynamic_update_slice_in_dim(whole, x, start, 0)
        out[i] = jax.lax.psum(own, hop.names)
    for members in _by_dtype([i for i in range(len(arrays)) if i not in summed], arrays):
        parts = [arrays[i] for i in members]
        axes = [hop.axes[i] for i in members]
        if len(members) == 1 and axes[0] is not None:
            out[members[0]] = jax.lax.all_to_all(parts[0], hop.names, axes[0], 0, tiled=True)
            continue
        if all(axis is None for axis in axes):
            sent = jnp.concatenate([x.reshape(len(x), -1) for x in parts], 1)
            received = jax.lax.all_gather(sent, hop.names, tiled=True)
        else:
            parts = [_for_each(x, axis, hop.size) for x, axis in zip(parts, axes, strict=True)]
            sent = jnp.concatenate([x.reshape(hop.size * x.shape[1], -1) for x in parts], 1)
            received = jax.lax.all_to_all(sent, hop.names, 0, 0, tiled=True)
            parts = [x[0] for x in parts]
        for i, x, part in zip(members, parts, _columns(received, parts), strict=True):
            out[i] = part.reshape(-1, *x.shape[1:])
    return out


def _there_at_once(hop: Hop, x: Rows) -> Rows:
    """`there` for matrices whose axes are both sharded: one exchange, which sends less than two."""
    (rows, columns), (count, m, n) = hop.both or (1, 1), x.shape
    received = jax.lax.all_to_all(x, hop.names, 0, 0, tiled=True)
    parts = received.reshape(rows, columns, count // hop.size, m, n)
    return jnp.transpose(parts, (2, 0, 3, 1, 4)).reshape(-1, rows * m, columns * n)


def _back_at_once(hop: Hop, x: Rows) -> Rows:
    """The inverse of `_there_at_once`."""
    (rows, columns), (share, m, n) = hop.both or (1, 1), x.shape
    parts = x.reshape(share, rows, m // rows, columns, n // columns)
    sent = jnp.transpose(parts, (1, 3, 0, 2, 4)).reshape(-1, m // rows, n // columns)
    return jax.lax.all_to_all(sent, hop.names, 0, 0, tiled=True)


def _for_each(x: Rows, axis: int | None, devices: int) -> Annotated[jax.Array, "_ _ ..."]:
    """What every device is to get, `[devices, batch, ...]`: its part of an axis, or all of `x`."""
    if axis is None:
        return jnp.broadcast_to(x, (devices, *x.shape))
    shape = [*x.shape[:axis], devices, x.shape[axis] // devices, *x.shape[axis + 1 :]]
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def _columns(
    x: Annotated[jax.Array, "_ _"], parts: list[Rows]
) -> list[Annotated[jax.Array, "_ _"]]:
    """Cut the columns of `x` into as many as each part has."""
    ends, end = [], 0
    for part in parts[:-1]:
        end += part.size // len(part)
        ends.append(end)
    return jnp.split(x, ends, axis=1)


def _by_dtype(members: list[int], arrays: list[Rows]) -> list[list[int]]:
    """Members whose arrays have the same dtype, together."""
    groups: dict[Any, list[int]] = {}
    for i in members:
        groups.setdefault(arrays[i].dtype, []).append(i)
    return list(groups.values())

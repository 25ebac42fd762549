"""Gathering arrays that are sharded over a mesh axis, as many as fit in one collective."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

MOST_BYTES = 2**28  # of the arrays that one collective gathers


class Part(NamedTuple):
    """How a leaf is split over mesh axes.

    Attributes:
        mesh: the mesh.
        axes: the mesh axes over which the leaf is split.
        whole: for every axis of the leaf, the mesh axes that shard it before it is split.
        place: the axis of the leaf that is split.
        known: whether `whole` is known. If not, the leaf may be sharded over other axes of the mesh.
    """

    mesh: Any
    axes: tuple[Any, ...]
    whole: tuple[tuple[Any, ...], ...]
    place: int
    known: bool

    @property
    def spec(self) -> PartitionSpec:
        """The spec of the split leaf."""
        entries = [names + self.axes * (k == self.place) for k, names in enumerate(self.whole)]
        return self._spec(entries)

    @property
    def whole_spec(self) -> PartitionSpec:
        """The spec of the leaf before it is split, and after it is gathered."""
        return self._spec(list(self.whole))

    def _spec(self, entries: list[tuple[Any, ...]]) -> PartitionSpec:
        open_ = None if self.known else PartitionSpec.UNCONSTRAINED
        return PartitionSpec(
            *[names or (open_ if k != self.place else None) for k, names in enumerate(entries)]
        )


def together(arrays: list[Any], parts: list[Part | None]) -> list[list[int]]:
    """The numbers of the arrays that one collective gathers, for all that have a part."""
    groups: dict[Any, list[list[int]]] = {}
    sizes: list[int] = [0 if x is None else x.size * x.dtype.itemsize for x in arrays]
    for i, (x, part) in enumerate(zip(arrays, parts, strict=True)):
        if x is None or part is None:
            continue
        if not part.known:
            # Only arrays of one shape are joined: joining others would need to know their shards.
            key = part, x.shape, x.dtype
        else:
            key = part.mesh, part.axes, x.dtype
        several = groups.setdefault(key, [[]])
        if several[-1] and sum(sizes[k] for k in several[-1]) + sizes[i] > MOST_BYTES:
            several.append([])
        several[-1].append(i)
    return [own for several in groups.values() for own in several]


def gathered(arrays: list[Any], parts: list[Part | None]) -> list[Any]:
    """The arrays, each of them whole again; one without a part is returned unchanged."""
    out = list(arrays)
    for own in together(arrays, parts):
        part = parts[own[0]]
        assert part is not None
        join = _by_shards if part.known else _by_constraint
        found = join([arrays[i] for i in own], [parts[i] for i in own])
        for i, x in zip(own, found, strict=True):
            out[i] = x
    return out


def _by_shards(arrays: list[Any], parts: list[Any]) -> list[Any]:
    """The whole arrays, by one all-gather of the shards of all of them."""
    axes, mesh = parts[0].axes, parts[0].mesh

    def gather(*shards: Any) -> list[Any]:
        if len(shards) == 1:  # nothing is to be joined, so nothing is copied
            return [jax.lax.all_gather(shards[0], axes, axis=parts[0].place, tiled=True)]
        flat = jnp.concatenate([x.reshape(-1) for x in shards])
        rows = jax.lax.all_gather(flat, axes)
        ends, start = [], 0
        for x, part in zip(shards, parts, strict=True):
            piece = rows[:, start : start + x.size].reshape(-1, *x.shape)
            start += x.size
            k = part.place
            shape = [*x.shape[:k], len(rows) * x.shape[k], *x.shape[k + 1 :]]
            ends.append(jnp.moveaxis(piece, 0, k).reshape(shape))
        return ends

    return jax.jit(
        jax.shard_map(
            gather,
            mesh=mesh,
            in_specs=tuple(part.spec for part in parts),
            out_specs=[part.whole_spec for part in parts],
            check_vma=False,  # every device has the same after the gather, which JAX does not know
        )
    )(*arrays)


def _by_constraint(arrays: list[Any], parts: list[Any]) -> list[Any]:
    """The whole arrays of one shape, where the compiler alone knows their other shards."""
    sharding = NamedSharding(parts[0].mesh, PartitionSpec(None, *parts[0].whole_spec))
    stack = jax.lax.with_sharding_constraint(jnp.stack(arrays), sharding)
    return [stack[i] for i in range(len(arrays))]

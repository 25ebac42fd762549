"""Arrays on meshes: which axes are sharded, and over which mesh axes an array varies."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType


def replicated(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """`x` replicated on all devices, and a function that gives an array the sharding of `x` again.

    On an Explicit mesh JAX refuses a matrix product over a sharded axis, because the sharding of its
    result is ambiguous. So the matrix is replicated first. On an Auto mesh and on one device, the
    results are `x` itself and a function that returns its argument.
    """
    sharding = jax.typeof(x).sharding
    if not is_sharded(x):
        return x, lambda y: y
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.sharding.reshard(x, whole), lambda y: jax.sharding.reshard(y, sharding)


def resharded(x: jax.Array, like: jax.Array) -> jax.Array:
    """`x` with the sharding of another array of its shape, on an Explicit mesh."""
    if not is_sharded(x) and not is_sharded(like):
        return x
    return jax.sharding.reshard(x, jax.typeof(like).sharding)


def is_sharded(x: jax.Array) -> bool:
    """Whether an axis of `x` is sharded over an axis of an Explicit mesh."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def mesh_of(arrays: Iterable[Any]) -> Any:
    """The first mesh of several devices on which one of these arrays lies, or None if there is none.

    Inside `shard_map` the answer is None, because an array is what the device holds there.
    """
    for x in arrays:
        mesh = None if x is None else jax.typeof(x).sharding.mesh
        if mesh is not None and mesh.size > 1:
            return None if AxisType.Manual in mesh.axis_types else mesh
    return None


def manual_axes() -> dict[str, int]:
    """The mesh axes of the `shard_map` that is traced here, and the number of devices along each."""
    mesh = jax.sharding.get_abstract_mesh()
    return {name: mesh.shape[name] for name in mesh.manual_axes}


def left_axes() -> tuple[str, ...]:
    """The mesh axes of several devices that are not axes of the `shard_map` that is traced here."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.manual_axes:
        return ()
    return tuple(n for n in mesh.axis_names if n not in mesh.manual_axes and mesh.shape[n] > 1)


def is_explicit(mesh: Any) -> bool:
    """Whether the types of arrays on this mesh say how they are sharded."""
    return AxisType.Explicit in mesh.axis_types


def mesh_axes(x: Any) -> tuple[tuple[str, ...], ...] | None:
    """For every axis of `x` the mesh axes that shard it; None if the type of `x` does not say so.

    On an Auto mesh only a concrete array says so.
    """
    sharding = jax.typeof(x).sharding
    if not is_explicit(sharding.mesh):
        sharding = None if isinstance(x, Tracer) else getattr(x, "sharding", None)
    if not isinstance(sharding, jax.sharding.NamedSharding):
        return None
    return named_axes(sharding.spec, sharding.mesh, x.ndim)


def named_axes(spec: Any, mesh: Any, ndim: int) -> tuple[tuple[str, ...], ...]:
    """For every one of `ndim` axes the mesh axes of more than one device that a spec names."""
    entries = (*spec, *(None,) * (ndim - len(spec)))
    several = [() if e is None else e if isinstance(e, tuple) else (e,) for e in entries]
    return tuple(tuple(n for n in names if mesh.shape[n] > 1) for names in several)


def placed_on(x: jax.Array, like: jax.Array, spec: Any) -> jax.Array:
    """`x` sharded by `spec` on the mesh of `like`, whose sharding is known (`mesh_axes`)."""
    if isinstance(like, Tracer):
        mesh = jax.typeof(like).sharding.mesh
        return jax.sharding.reshard(x, jax.sharding.NamedSharding(mesh, spec))
    mesh: Any = getattr(like.sharding, "mesh", None)
    return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))


def varying_axes(x: Any) -> frozenset[Any]:
    """The mesh axes over which `x` may differ between devices, inside `shard_map`."""
    return jax.typeof(x).manual_axis_type.varying if isinstance(x, Tracer) else frozenset()


def replacing(old: Any, new: jax.Array) -> jax.Array:
    """`new`, which varies over every mesh axis over which `old` varies, in the memory of `old`.

    `jit` drops an argument that nothing reads, and the memory that was donated with it. A new scalar
    then lies somewhere else after each step, and a GPU has to record the graph of its kernels anew. So
    the old scalar is read here, by a choice between two equal numbers, which the compiler removes.
    """
    if not isinstance(old, Tracer):
        return new
    if axes := jax.typeof(old).manual_axis_type.varying:
        axes = axes - varying_axes(new)
        new = jax.lax.pcast(new, tuple(sorted(axes, key=str)), to="varying") if axes else new
    return new if new.shape else jax.lax.select(old == old, new, new)


def varying_like(x: jax.Array, *others: Any) -> jax.Array:
    """`x`, cast so that it varies over every mesh axis over which one of `others` varies."""
    axes: set[Any] = set()
    for other in others:
        if isinstance(other, Tracer):
            axes |= jax.typeof(other).manual_axis_type.varying
    axes -= varying_axes(x) if axes else axes
    return jax.lax.pcast(x, tuple(sorted(axes, key=str)), to="varying") if axes else x

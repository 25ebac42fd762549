"""`plan`: what a step of an optimizer costs on a mesh that this machine need not have."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from gradtx._core.authors import described
from gradtx._core.foreign import as_transform, foreign
from gradtx._core.function_arguments import check_arguments
from gradtx._core.trees import PyTree, flatten, is_none, paths
from gradtx._show.plan_job import compile_step, export_step
from gradtx._show.plan_result import StepPlan, Traffic
from gradtx._show.program_text import collectives, products
from gradtx._training.shardings import state_shardings

ONE = AbstractMesh((1,), ("device",))


def plan(
    tx: optax.GradientTransformation,
    params: PyTree,
    param_shardings: PyTree = None,
    *,
    flops: float | None = None,
    memory_bandwidth: float | None = None,
    link_bandwidth: float | Mapping[str, float] | None = None,
    topology: str | None = None,
    timeout: float = 600.0,
    **extra: Any,
) -> StepPlan:
    """What one step of an optimizer costs every device of a mesh, which need not exist.

    A process of its own compiles the update and `apply_updates` for as many devices as the mesh has, and
    runs nothing. What is counted are the matrix products and the collective operations in the compiled
    program, with loops multiplied. The gradients have the dtypes and shardings of the parameters.

    A time is a lower bound: the longest of the time for the products, the time to read and write what
    the step is given and returns, and the time to send what the devices exchange. Products, memory and
    network may overlap, and the bound assumes that they do.

    On virtual devices of a CPU, temporary memory is that of a CPU program, and arrays that an
    accelerator sends in bfloat16 are counted as float32. With `topology`, the compiler of TPUs says
    what a TPU would do. In both cases the step is traced in this process: a transformation that depends
    on the platform, as `newton_schulz` does, has the form for the platform of this process.

    Args:
        tx: the optimizer, of gradtx or of Optax.
        params: the tree of parameters: arrays, or `jax.ShapeDtypeStruct`s.
        param_shardings: the `NamedSharding` of every parameter, as a tree of the structure of `params`,
            or a prefix of it, as in `state_shardings`. Their mesh may be a `jax.sharding.AbstractMesh`
            of any size. None means the shardings that the parameters have, or one device.
        flops: how many floating-point operations in products a device carries out per second.
        memory_bandwidth: how many bytes a device reads or writes per second in its memory.
        link_bandwidth: how many bytes a device sends per second to other devices, as a number or for
            every mesh axis. An exchange over several axes goes at the slowest.
        topology: the name of a TPU topology, such as "v5e:2x4", to compile for. It needs `libtpu`
            (`pip install 'gradtx[tpu-aot]'`), and no TPU. None means virtual devices of the CPU.
        timeout: the number of seconds after which the compilation is stopped.
        extra: the further keyword arguments that `update` needs, or their shapes.

    Returns:
        A `StepPlan`, which prints as a table, and whose attributes are the numbers.

    Raises:
        TypeError: if `tx` is not a transformation, or if the sharding of a parameter is not a
            `NamedSharding`; the message names its path.
        ValueError: if parameters lie on different meshes, if an axis of a parameter cannot be sharded as
            its sharding says, or if a mesh axis has no bandwidth.
        TimeoutError: if the step does not compile in time.
        RuntimeError: if the compilation fails.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec as P
    >>> rows = NamedSharding(AbstractMesh((64,), ("data",)), P(None, "data"))
    >>> params = {"layers": {"kernel": jax.ShapeDtypeStruct((64, 256, 128), jnp.float32)}}
    >>> found = gradtx.plan(gradtx.muon(1e-3), params, rows, link_bandwidth=5e10)
    >>> [(x.kind, x.axes, x.devices, x.runs) for x in found.traffic]
    [('all-to-all', ('data',), 64, 2)]
    """
    check_arguments(plan, locals())
    tx = as_transform(tx, "plan(tx=...)")
    shapes, mesh = _on_mesh(params, param_shardings)
    axes = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True))
    speeds = _speeds(link_bandwidth, axes)
    state = jax.tree.map(_placed, _state(tx, shapes), state_shardings(tx, shapes))
    everywhere = NamedSharding(mesh, PartitionSpec())
    given = jax.tree.map(lambda x: _placed(x, everywhere), jax.eval_shape(lambda: extra))
    step = export_step(tx, shapes, state, given, "cpu" if topology is None else "tpu")
    built = compile_step(step, mesh, topology, timeout)
    count = products(built.text).flops if topology is None else None
    traffic = _traffic(built.text, axes)
    ours, kept = _bytes_per_device(shapes), _bytes_per_device(state)
    on_host = _bytes_per_device(
        [x for x in jax.tree.leaves(state) if x.sharding.memory_kind == "pinned_host"]
    )
    return StepPlan(
        tx.origin if isinstance(tx, foreign) else type(tx).__name__,
        axes,
        topology or "cpu",
        built.seconds,
        ours,
        kept - on_host,
        on_host,
        built.temporary_bytes,
        count,
        traffic,
        count / flops if flops and count is not None else None,
        (3 * ours + 2 * kept) / memory_bandwidth if memory_bandwidth else None,
        sum(x.sent / min(speeds[name] for name in x.axes or axes) for x in traffic)
        if speeds
        else None,
    )


def _on_mesh(params: PyTree, param_shardings: PyTree) -> tuple[PyTree, Any]:
    """The shapes of the parameters, sharded over a mesh without devices, and this mesh."""
    leaves, structure = flatten(params)
    if param_shardings is None:
        shardings = [getattr(x, "sharding", None) for x in leaves]
    else:
        broadcast = jax.tree.broadcast(param_shardings, params, is_leaf=is_none)
        shardings = jax.tree.leaves(broadcast, is_leaf=is_none)
    where = paths(params)
    arrays = [i for i, x in enumerate(leaves) if hasattr(x, "dtype")]
    alone = not any(isinstance(shardings[i], NamedSharding) for i in arrays)
    mesh: Any = ONE
    for i in arrays:
        sharding = NamedSharding(ONE, PartitionSpec()) if alone else shardings[i]
        name = f"`plan`: the parameter at `{where[i] or '.'}`"
        if not isinstance(sharding, NamedSharding):
            raise TypeError(
                f"{name} has the sharding {described(sharding)}, and it must be a `NamedSharding` like "
                "those of other parameters."
            )
        mesh = sharding.mesh.abstract_mesh
        sharding = NamedSharding(mesh, sharding.spec)
        try:
            sharding.shard_shape(leaves[i].shape)
        except ValueError:
            raise ValueError(
                f"{name} has the shape {leaves[i].shape}, which its sharding {sharding.spec} does not "
                "cut evenly. Shard an axis whose size is a multiple of the number of devices along the "
                "mesh axis."
            ) from None
        leaves[i] = jax.ShapeDtypeStruct(leaves[i].shape, leaves[i].dtype, sharding=sharding)
    return structure.unflatten(leaves), mesh


def _state(tx: Any, params: PyTree) -> Any:
    """The shapes of the state. Leaves of the parameters that are not arrays stay what they are."""
    arrays = jax.tree.map(lambda x: x if hasattr(x, "dtype") else None, params)

    def init(arrays: PyTree) -> Any:
        merged = jax.tree.map(lambda a, x: x if a is None else a, arrays, params, is_leaf=is_none)
        return tx.init(merged)

    return jax.eval_shape(init, arrays)


def _placed(x: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding, weak_type=x.weak_type)


def _bytes_per_device(tree: PyTree) -> int:
    """The bytes of these sharded shapes that one device holds."""
    arrays = [x for x in jax.tree.leaves(tree) if hasattr(x, "dtype")]
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)


def _speeds(
    link_bandwidth: float | Mapping[str, float] | None, axes: dict[str, int]
) -> dict[str, float]:
    """The bandwidth of every mesh axis; none if no bandwidth was given."""
    if link_bandwidth is None:
        return {}
    if not isinstance(link_bandwidth, Mapping):
        return dict.fromkeys(axes, link_bandwidth)
    for name in axes:
        if name not in link_bandwidth:
            raise ValueError(
                f"`plan(link_bandwidth=...)` has no entry for the mesh axis {name!r}. Give a number for "
                f"every one of {[*axes]}, or one number for all."
            )
    return dict(link_bandwidth)


def _traffic(text: str, axes: dict[str, int]) -> tuple[Traffic, ...]:
    """The collective operations of a program, equal ones together."""
    runs: dict[Any, int] = {}
    for x in collectives(text):
        one = Traffic(x.kind, mesh_axes_of(x.group, axes), x.devices, 1, x.bytes, x.sent / x.runs)
        runs[one] = runs.get(one, 0) + x.runs
    return tuple(x._replace(runs=n, sent=n * x.sent) for x, n in sorted(runs.items()))


def mesh_axes_of(group: Sequence[int], mesh: dict[str, int]) -> tuple[str, ...]:
    """The axes of the mesh along which the devices of a group differ.

    >>> mesh_axes_of((0, 4), {"data": 2, "model": 4})
    ('data',)
    """
    found, stride = [], math.prod(mesh.values())
    for name, size in mesh.items():
        stride //= size
        if len({device // stride % size for device in group}) > 1:
            found.append(name)
    return tuple(found)

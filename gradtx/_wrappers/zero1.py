"""`zero1`: the state of an optimizer, sharded over the devices that replicate the parameters."""

from collections.abc import Hashable
from typing import Any

import jax
from jax.sharding import NamedSharding

from gradtx._compose.wrapper import Wrapper
from gradtx._core.latex import Page, Tex
from gradtx._core.sharding import is_explicit, mesh_axes, mesh_of
from gradtx._core.trees import PyTree, flatten
from gradtx._wrappers.gather import Part, gathered


class zero1(Wrapper):
    r"""Shard the state of an optimizer over a mesh axis along which the parameters are replicated.

    $$ u = f(g) $$

    In data parallel training every device holds all parameters. With `zero1` it holds only a part of the
    optimizer's state, computes the updates of this part, and gathers the updates of the other devices.
    The numbers are those of `inner`, $f$. On 8 devices, the state takes an eighth of the memory.

    Every array is split along its first axis whose length is a multiple of the number of devices. An
    array without such an axis is not split, and neither is one that is sharded over `axis` already.
    Updates are gathered in float32 at least, as many arrays at once as fit into 256 MB. The gradients
    that `update` gets are already summed over the devices, and every device holds all of them. So a norm
    needs no communication if it is taken in front of `zero1`:
    `chain(clip_by_global_norm(1.0), zero1(adamw(1e-3), "data"))`.

    On one device, and where arrays do not lie on a mesh, it is the same as `inner`. On a mesh with
    several axes of the type Auto, a compiled step is not told how parameters are sharded over the other
    axes of the mesh. These shards are kept, and a step takes one all-gather for every shape of an array.
    But if they lie along the axis that is split, the updates are whole along this axis afterwards. Axes
    of the type Explicit keep all shards, and arrays of all shapes share an all-gather.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        axis: the mesh axis, or the tuple of mesh axes, over which the parameters are replicated.

    The state is the state of `inner`. `gradtx.state_shardings` says how it is sharded.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if the mesh has no axis of this name, or if `init` or `update` is called inside
            `shard_map` over this axis.

    Source: Rajbhandari et al., 2020, arXiv:1910.02054, section 5.1.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> from jax.sharding import NamedSharding, PartitionSpec as P
    >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
    >>> params = jax.device_put(jnp.ones((64, 8)), NamedSharding(mesh, P()))
    >>> tx = gradtx.zero1(gradtx.adam(1e-3), "data")
    >>> state = tx.init(params)
    >>> updates, state = tx.update(params, state, params)
    >>> gradtx.get(state, "mu").sharding.spec, updates.sharding.is_fully_replicated
    (P('data', None), True)
    """

    axis: Hashable
    linear = True
    keeps_updates = True

    def init_tree(self, params: PyTree) -> Any:
        leaves, structure = flatten(params)
        parts = self._parts(leaves)
        return self.inner.init_tree(structure.unflatten(map(_split, leaves, parts)))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        leaves, structure = flatten(updates)
        owners = None if params is None else structure.flatten_up_to(params)
        parts = self._parts(leaves if owners is None else owners)
        own = structure.unflatten(map(_split, leaves, parts))
        if owners is not None:
            params = structure.unflatten(map(_split, owners, parts))
        out, state = self.inner.update_tree(own, state, params, extra)
        return structure.unflatten(gathered(structure.flatten_up_to(out), parts)), state

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)

    def _parts(self, leaves: list[Any]) -> list[Part | None]:
        """How each leaf is split; None for a leaf that is not split."""
        axes = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        manual = [a for a in axes if a in jax.sharding.get_abstract_mesh().manual_axes]
        if manual:
            raise ValueError(
                f"`zero1(axis={self.axis!r})` cannot be used inside `shard_map` over {manual[0]!r}, "
                "where a leaf is what the device holds. Call `update` outside of it."
            )
        mesh = mesh_of(leaves)
        if mesh is None:
            return [None] * len(leaves)
        if missing := [a for a in axes if a not in mesh.axis_names]:
            raise ValueError(
                f"`zero1(axis={self.axis!r})`: the mesh of the parameters has the axes "
                f"{mesh.axis_names}, and not {missing[0]!r}."
            )
        return [None if x is None else _part(x, mesh, axes) for x in leaves]


def _part(x: Any, mesh: Any, axes: tuple[Any, ...]) -> Part | None:
    whole = mesh_axes(x)
    known = whole is not None or all(n in axes or mesh.shape[n] == 1 for n in mesh.axis_names)
    whole = ((),) * x.ndim if whole is None else whole
    if any(a in names for names in whole for a in axes):
        return None
    devices = 1
    for a in axes:
        devices *= mesh.shape[a]
    # An axis that is sharded already would do as well, but is split into smaller pieces.
    for k in sorted(range(x.ndim), key=lambda k: len(whole[k])):
        shards = 1
        for a in whole[k]:
            shards *= mesh.shape[a]
        if x.shape[k] and x.shape[k] % (devices * shards) == 0:
            return Part(mesh, axes, whole, k, known)
    return None


def _split(x: Any, part: Part | None) -> Any:
    """A leaf, sharded as its part says."""
    if x is None or part is None:
        return x
    sharding = NamedSharding(part.mesh, part.spec)
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    if is_explicit(part.mesh):
        return jax.sharding.reshard(x, sharding)
    return jax.lax.with_sharding_constraint(x, sharding)

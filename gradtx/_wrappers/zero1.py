"""`zero1`: the state of an optimizer, sharded over the devices that replicate the parameters."""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import compute_dtype
from gradtx._core.inside import Leaves
from gradtx._core.latex import Page, Tex
from gradtx._core.layouts import with_others
from gradtx._core.sharding import is_explicit, mesh_axes, mesh_of, named_axes
from gradtx._core.trees import PyTree, Structure, flatten
from gradtx._matrices.units import Spec
from gradtx._wrappers.gather import Part, gathered, together


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

    axis: str | tuple[str, ...]
    linear = True
    keeps_updates = True

    def validate(self) -> None:
        if self.axis == ():
            raise ValueError("`zero1(axis=())` must be the name of at least one mesh axis.")

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

    def given_inside(self, leaves: Leaves, structure: Structure) -> list[tuple[Any, Leaves]]:
        """What `inner` is given in a compiled step (`gradtx/_core/inside.py`)."""
        return [(self.inner, [*map(_split_shape, leaves, self._parts(leaves, compiled=True))])]

    def sends(self, leaves: Leaves, structure: Structure) -> dict[int, str]:
        """What a compiled step sends for each leaf, in words, for `routing`."""
        arrays = [x and jax.ShapeDtypeStruct(x.shape, compute_dtype(x)) for x in leaves]
        found: dict[int, str] = {}
        for own in together(arrays, self._parts(leaves, compiled=True)):
            found |= dict.fromkeys(own, "1 all-gather of updates" + with_others(len(own) - 1))
        return found

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)

    def _parts(self, leaves: list[Any], *, compiled: bool = False) -> list[Part | None]:
        """How each leaf is split; None for a leaf that is not split.

        If `compiled` is True, shardings over Auto axes are ignored, which a compiled step does not know.
        """
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
        unknown = compiled and not is_explicit(mesh)
        specs = [None if x is None or unknown else mesh_axes(x) for x in leaves]
        return [
            None if x is None else _part(x, mesh, axes, spec)
            for x, spec in zip(leaves, specs, strict=True)
        ]


def _part(x: Any, mesh: Any, axes: tuple[Any, ...], found: Spec | None) -> Part | None:
    """How a leaf is split, given its sharding, or None if the sharding is not known."""
    known = found is not None or all(n in axes or mesh.shape[n] == 1 for n in mesh.axis_names)
    whole: Spec = ((),) * x.ndim if found is None else found
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


def _split_shape(x: Any, part: Part | None) -> Any:
    """The shape of a leaf with the sharding that `_split` gives it in a compiled step."""
    if x is None or part is None:
        return x
    spec: list[Any] = list(named_axes(x.sharding.spec, part.mesh, len(x.shape)))
    spec = [tuple(n for n in names if n not in part.axes) for names in spec]
    spec[part.place] = part.whole[part.place] + part.axes
    sharding = NamedSharding(part.mesh, PartitionSpec(*(names or None for names in spec)))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

"""`on_matrices`: a transformation of matrices, applied to a leaf that holds them."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.shapes import Leaf
from gradtx._core.sharding import (
    is_sharded,
    manual_axes,
    mesh_axes,
    mesh_of,
    placed_on,
    replicated,
    varying_axes,
)
from gradtx._core.unit import Elementwise, Unit
from gradtx._matrices.members import held_part
from gradtx._matrices.parts import pack, part_shapes, unpack
from gradtx._matrices.units import partition_spec, unit_of


class on_matrices(Elementwise):
    """A transformation of matrices, applied to the leaf that holds them in the given axes."""

    unit: Unit
    axes: Any
    linear = False

    @property
    def is_part(self) -> bool:
        """Whether the leaf is a part of a larger array, and so is the state."""
        return self.axes is not None and self.axes.is_part

    def with_values(self, values: dict[str, Any]) -> Any:
        return self._with(unit=self.unit.with_values(values))

    def init_unit(self, param: Any) -> Any:
        unit: Any = self.unit

        def init(param: Any) -> Any:
            return pack([unit.init_matrices(x) for x in self.axes.split_parts(param)])

        abstract = isinstance(param, jax.ShapeDtypeStruct)
        if self.is_part:
            return self._init_part(init, param)
        if not abstract and mesh_of([param]) is None and not is_sharded(param):
            return init(param)
        # The state depends on the shape and the dtype of the parameter alone, so zeros replace it.
        state = jax.jit(lambda: init(jnp.zeros(param.shape, param.dtype)))()
        if abstract or (spec := mesh_axes(param)) is None:
            return state
        leaves, structure = jax.tree.flatten(state)
        group, leaf = unit_of(self.axes, param.shape, spec, param.dtype, leaves)
        for k, (shape, _) in enumerate(group.states):
            # The state of unequal parts is packed into one axis.
            own = leaf.state_spec(group, shape) if isinstance(self.axes.blocks, int) else ()
            leaves[k] = placed_on(leaves[k], param, partition_spec(own))
        return structure.unflatten(leaves)

    def _init_part(self, init: Any, param: Any) -> Any:
        """The part of the state of the whole array that belongs to this part of it."""
        whole = self.axes.whole(param.shape)
        sizes = manual_axes()
        named = {n for names in self.axes.spec or () for n in names if sizes.get(n, 1) > 1}
        zeros = jnp.zeros(whole, param.dtype)
        if others := tuple(sorted(varying_axes(param) - named, key=str)):
            zeros = jax.lax.pcast(zeros, others, to="varying")
        leaves, structure = jax.tree.flatten(init(zeros))
        group, leaf = unit_of(self.axes, whole, self.axes.spec, param.dtype, leaves)
        batch = tuple(whole[i] for i in leaf.order[: leaf.batch])
        for k, (shape, _) in enumerate(group.states):
            x = leaves[k].reshape(*batch, *shape)
            x = held_part(x, (*leaf.batch_spec, *group.state_spec(shape)))
            leaves[k] = x.reshape(-1, *x.shape[len(batch) + 1 :])
        return structure.unflatten(leaves)

    def apply_leaf(
        self, args: list[Leaf], state: Any, param: Any, from_begin: Any
    ) -> tuple[Leaf, Any]:
        unit: Any = self.unit
        gathered = [replicated(x) for x in args]
        parts = list(zip(*(self.axes.split_parts(x) for x, _ in gathered), strict=True))
        arrays, structure = jax.tree.flatten(state)
        shapes = part_shapes(unit.init_matrices, [_model(xs[0]) for xs in parts])
        states = [structure.unflatten(own) for own in unpack(arrays, shapes)]
        done = [
            unit.apply_matrices(list(xs), own, from_begin)
            for xs, own in zip(parts, states, strict=True)
        ]
        x = self.axes.join_parts([x for x, _ in done], args[0].shape)
        return gathered[0][1](x), pack([state for _, state in done])


def _model(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)

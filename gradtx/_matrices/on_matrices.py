"""`on_matrices`: a transformation of matrices, applied to a leaf that holds them."""

from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.shapes import Leaf
from gradtx._core.sharding import is_sharded, mesh_axes, mesh_of, placed_on, replicated
from gradtx._core.unit import Elementwise, Unit
from gradtx._matrices.parts import pack, part_shapes, unpack
from gradtx._matrices.units import partition_spec, unit_of


class on_matrices(Elementwise):
    """A transformation of matrices, applied to the leaf that holds them in the given axes."""

    unit: Unit
    axes: Any
    linear = False

    def with_values(self, values: dict[str, Any]) -> Any:
        return self._with(unit=self.unit.with_values(values))

    def init_unit(self, param: Any) -> Any:
        unit: Any = self.unit

        def init(param: Any) -> Any:
            return pack([unit.init_matrices(x) for x in self.axes.split_parts(param)])

        abstract = isinstance(param, jax.ShapeDtypeStruct)
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

"""Scalars of a state inside `shard_map`: over which mesh axes they vary.

A decision that is made from gradients, such as to clip or to skip a step, may differ between devices. A
state records such decisions in scalars. These scalars vary over the mesh axes over which the gradients
vary, except over the axes over which the devices agree.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.sharding import varying_axes


def over(x: jax.Array, axes: frozenset[Any]) -> jax.Array:
    """`x`, cast so that it varies over these mesh axes."""
    new = tuple(sorted(axes - axes_of(x), key=str))
    return jax.lax.pcast(x, new, to="varying") if new else x


def axes_of(x: Any) -> frozenset[Any]:
    """The mesh axes over which an array, or what `jax.eval_shape` returns for one, varies."""
    return jax.typeof(x).manual_axis_type.varying


def deciding_axes(params: Any, axis_name: Any = None, *numbers: Any) -> frozenset[Any]:
    """The mesh axes over which a decision that is made from the gradients may differ.

    These are, first, the axes over which `params` vary, without those in `axis_name`, over which the
    devices agree; and second, all axes over which the hyperparameters `numbers` vary.
    """
    axes: frozenset[Any] = frozenset()
    for p in jax.tree.leaves(params):
        axes |= varying_axes(p)
    axes -= frozenset(axis_name if isinstance(axis_name, tuple) else (axis_name,))
    for number in jax.tree.leaves(numbers):
        axes |= varying_axes(number)
    return axes


def counter(axes: frozenset[Any], value: Any = 0) -> jax.Array:
    """A new scalar that varies over these mesh axes; an int32 unless `value` has another dtype."""
    value = np.int32(value) if type(value) is int else value
    # A copy, since a buffer that two arrays of a state share cannot be donated.
    return over(jnp.array(value, copy=True), axes)

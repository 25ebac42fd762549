"""The states of the unequal parts of one array, packed into one state.

A transformation keeps one array per leaf in each field of its state. The parts of a leaf whose fused
projections differ in size have states of different shapes. These are flattened and concatenated.
"""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp

# An array of the state of some matrices, or of several parts, packed.
Packed = Annotated[jax.Array, "..."]


def pack(states: list[Any]) -> Any:
    """The states of all parts as one state; a single state is returned unchanged."""
    if len(states) == 1:
        return states[0]
    return jax.tree.map(lambda *xs: jnp.concatenate([x.reshape(-1) for x in xs]), *states)


def unpack(arrays: list[Packed], shapes: list[list[tuple[int, ...]]]) -> list[list[Packed]]:
    """The arrays of every part, from the arrays of the packed state.

    Args:
        arrays: the arrays of the packed state.
        shapes: for every part the shapes of its arrays.
    """
    if len(shapes) == 1:
        return [arrays]
    parts: list[list[jax.Array]] = [[] for _ in shapes]
    for i, x in enumerate(arrays):
        start = 0
        for part, own in zip(parts, shapes, strict=True):
            end = start + math.prod(own[i])
            part.append(x[start:end].reshape(own[i]))
            start = end
    return parts


def part_shapes(init: Any, parts: list[jax.ShapeDtypeStruct]) -> list[list[tuple[int, ...]]]:
    """The shapes of the arrays in the state of every part; `init` makes the state of matrices."""
    if len(parts) == 1:
        return [[]]
    return [[x.shape for x in jax.tree.leaves(jax.eval_shape(init, part))] for part in parts]

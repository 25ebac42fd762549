"""How the state of a basis lies on a mesh.

A device keeps a part of every array of the state, like a part of the matrix itself. Parts are taken
along the first axis whose length the devices divide, which for a square matrix are its rows. The mesh
axes are those that shard the matrix. Where none does, the state is replicated, as the matrix is.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from gradtx._matrices.units import Spec, UnitGroup, UnitLeaf, unit_of

Shape = tuple[int, ...]


def layout_of(
    axes: Any, leaf: Any, spec: Spec | None, dtype: Any, states: list[Any], sizes: Mapping[str, int]
) -> tuple[UnitGroup, UnitLeaf]:
    """The group of a leaf, whose arrays of the state lie as this file says, and how the leaf lies.

    Args:
        axes: the axes of its matrices.
        leaf: an object with the shape of the leaf.
        spec: the mesh axes of every axis of the leaf, or None if they are not known.
        dtype: the dtype of its matrices.
        states: the arrays of its state.
        sizes: the number of devices along every mesh axis.
    """
    group, unit_leaf = unit_of(axes, tuple(leaf.shape), spec, dtype, [])
    group = group._replace(states=states_of_unit(states, unit_leaf.units))
    shapes = [shape for shape, _ in group.states]
    # The states of unequal parts are kept packed into one axis, which is not sharded.
    spec_of_unit = group.spec if isinstance(axes.blocks, int) else ()
    specs = specs_of_arrays(shapes, spec_of_unit or (), sizes)
    return group._replace(state_specs=specs), unit_leaf


def states_of_unit(states: list[Any], units: int) -> tuple[tuple[Shape, str], ...]:
    """The shapes and the dtypes of the arrays of the state of one unit.

    The first axis of an array of a state is that of the batch. For every unit it has an entry for each
    fused projection, and if the basis cuts matrices into blocks, for each block.

    Args:
        states: the arrays of the state of all units.
        units: the number of units.
    """
    return tuple(((x.shape[0] // units, *x.shape[1:]), str(x.dtype)) for x in states)


def specs_of_arrays(
    shapes: Iterable[Shape], spec: Spec, sizes: Mapping[str, int]
) -> tuple[tuple[Shape, Spec], ...]:
    """The mesh axes of every axis of arrays of the state of one unit, by shape.

    Args:
        shapes: the shapes of the arrays, whose first axis stays whole.
        spec: the mesh axes of every axis of the unit.
        sizes: the number of devices along every mesh axis.
    """
    # There is one exchange for each sharded axis of the matrix, in the order of the axes. An exchange
    # joins neighboring parts of the array, so the mesh axes of the first exchange come last here.
    names = tuple(name for own in reversed(spec) for name in own)
    devices = math.prod(sizes[name] for name in names)
    found: dict[Shape, Spec] = {}
    for shape in shapes:
        axes: list[tuple[str, ...]] = [()] * len(shape)
        fits = (i for i, n in enumerate(shape) if i and n % devices == 0)
        if names and math.prod(shape) and (first := next(fits, None)) is not None:
            axes[first] = names
        found[shape] = tuple(axes)
    return tuple(found.items())

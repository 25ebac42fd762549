"""A stack of matrices, sharded over both axes of an Auto mesh at once.

It is not known which mesh axes shard which axes of the matrices. Between two arrays with the shardings

    [None, None, matrices, *matrix]  and  ["x", "y", matrices, *whole matrix]

XLA exchanges both mesh axes at once if each of them shards an axis of its own, there and back. So an
axis of the matrix whose length is a multiple of the a x b devices is taken apart into axes of lengths
a, b and the rest. If two mesh axes shard the axis together, they then shard two axes. The axis of the
stack is taken apart in the same way. (XLA gathers the matrices if the stack has a single axis.)
"""

import math
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gradtx._matrices.hops import Rows


def spread(mesh: Any, names: tuple[str, ...], x: Rows) -> Rows:
    """A stack that is not sharded along its first axis, sharded there over these mesh axes."""
    here, there = _specs(names)
    parts = _constrained(mesh, here, x.reshape(_taken_apart(mesh, names, x.shape)))
    return _constrained(mesh, there, parts).reshape(x.shape)


def collected(mesh: Any, names: tuple[str, ...], x: Rows) -> Rows:
    """The inverse of `spread`."""
    here, there = _specs(names)
    parts = _constrained(mesh, there, x.reshape(_taken_apart(mesh, names, x.shape)))
    return _constrained(mesh, here, parts).reshape(x.shape)


def _specs(names: tuple[str, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The specs of the axes of the stack before and after it is spread."""
    return (None,) * (len(names) + 1), (*names, PartitionSpec.UNCONSTRAINED)


def _constrained(mesh: Any, first: tuple[Any, ...], x: Any) -> Any:
    """`x` with these specs of its first axes, and the others as XLA chooses."""
    free = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - len(first))
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*first, *free)))


def _taken_apart(mesh: Any, names: tuple[str, ...], shape: tuple[int, ...]) -> list[int]:
    """The lengths of the axes of the stack and of the matrices."""
    sizes = [mesh.shape[name] for name in names]
    lengths = [*sizes, shape[0] // math.prod(sizes)]
    for n in shape[1:]:
        for size in (
            k for k in mesh.shape.values() if k > 1
        ):  # two mesh axes shard one axis in the order of the mesh
            part = size if n % size == 0 else 1
            lengths.append(part)
            n //= part
        lengths.append(n)
    return lengths

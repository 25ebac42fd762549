"""Sums over the entries of several arrays of one shape, computed together."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from gradtx._core.sharding import mesh_of, varying_like


def total_of_each(tree: Any) -> Any:
    """The tree with the sum of all entries in the place of every array.

    Large arrays of one shape and dtype are summed in one loop, so that what they have in common is
    computed and read once. The loop goes over the last axis first, since a float32 sum of a hundred
    million numbers one after the other would lose most of them.
    """
    arrays, structure = jax.tree.flatten(tree)
    kinds: dict[Any, list[jax.Array]] = {}
    for number, x in {id(x): x for x in arrays}.items():  # several taps may see the same array
        # On a mesh, the compiler would gather arrays that one loop goes through.
        together = x.ndim >= 2 and x.size > 1 and mesh_of([x]) is None
        kinds.setdefault((x.shape, x.dtype) if together else number, []).append(x)
    totals: dict[int, jax.Array] = {}
    for own in kinds.values():
        sums = [jnp.sum(own[0])] if len(own) == 1 else _together(own)
        totals.update(zip(map(id, own), sums, strict=True))
    return structure.unflatten([totals[id(x)] for x in arrays])


def _together(arrays: list[jax.Array]) -> list[jax.Array]:
    x = arrays[0]
    # Most rows have some thousand entries. A narrow array is summed along all but its first axis.
    first = next((k for k in range(1, x.ndim) if math.prod(x.shape[k:]) <= 4096), x.ndim - 1)
    rows = tuple(range(first, x.ndim))
    zeros = [varying_like(jnp.zeros((), y.dtype), y) for y in arrays]
    for axes in (rows, tuple(range(first))):
        arrays = list(jax.lax.reduce(arrays, zeros, _add, axes))
    return arrays


def _add(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
    return [x + y for x, y in zip(a, b, strict=True)]

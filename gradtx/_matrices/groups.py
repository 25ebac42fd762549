"""Where each matrix is worked on: the one place that brings matrices of one shape together.

Matrices are turned wide and grouped by shape and dtype, and each group runs one traced body, so a
program grows with the number of shapes and not of leaves. Groups are capped in bytes: without a cap
the copies of a whole model's matrices are live at once.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# A group is copied together, and on a CPU each result is put in its matrix' place: with the matrices
# themselves about twice this is live at the peak. Batched products elsewhere need four times as much.
GROUP_BYTES = 2**28


def map_groups(
    f: Callable[[jax.Array], jax.Array], stacks: list[jax.Array], cap: int = GROUP_BYTES
) -> list[jax.Array]:
    """`f` of each stack of matrices `[batch, m, n]`, called once for all of one shape and dtype.

    `f` takes and returns `[batch, m, n]` with m <= n and treats matrices separately; it commutes with
    the transpose. A group of more than `cap` bytes is cut.
    """
    results: list[Any] = list(stacks)

    def kind(i: int) -> tuple[Any, ...]:
        return (*sorted(stacks[i].shape[1:]), str(stacks[i].dtype))

    for _, members in itertools.groupby(sorted(range(len(stacks)), key=kind), key=kind):
        for chunk in _capped(list(members), stacks, cap):
            wide = [stacks[i] if _is_wide(stacks[i]) else stacks[i].mT for i in chunk]
            out = f(wide[0] if len(wide) == 1 else jnp.concatenate(wide))
            for i, part in zip(chunk, _cut(out, [len(x) for x in wide]), strict=True):
                results[i] = part if _is_wide(stacks[i]) else part.mT
    return results


def _cut(x: jax.Array, sizes: list[int]) -> list[jax.Array]:
    """`x` in parts of these sizes along its first axis."""
    if len(sizes) == 1 or jax.default_backend() != "cpu":
        return jnp.split(x, list(itertools.accumulate(sizes))[:-1])
    # XLA:CPU compiles equal kernels once, and a start that is written into one makes it another: that
    # was two thirds of Muon's compile time. What comes out of a loop stays a value, so the starts do:
    # 0, 1, ... move through a queue, and each start is a number of two such digits.
    base = math.isqrt(len(x) - 1) + 1
    digits = jax.lax.fori_loop(0, base, lambda i, queue: (*queue[1:], i), (0,) * base)
    starts = itertools.accumulate(sizes[:-1], initial=0)
    return [
        jax.lax.dynamic_slice_in_dim(x, digits[i // base] * base + digits[i % base], size)
        for i, size in zip(starts, sizes, strict=True)
    ]


def in_turn(f: Callable[[jax.Array], jax.Array], stack: jax.Array) -> jax.Array:
    """`f` of one matrix of the stack after another; `lax.map` would hold a second stack."""

    def replace(i: Any, stack: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(stack, f(stack[i]), i, 0)

    return jax.lax.fori_loop(0, len(stack), replace, stack)


def replicated(x: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """`x` where products over its axes are allowed, and the way back to its own sharding.

    On an Explicit mesh a product over a sharded axis has no sharding of its own to give, so the matrix
    is gathered first. On an Auto mesh, and on one device, nothing is to be done.
    """
    sharding = jax.typeof(x).sharding
    if all(axis is None for axis in sharding.spec):
        return x, lambda y: y
    whole = jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    return jax.sharding.reshard(x, whole), lambda y: jax.sharding.reshard(y, sharding)


def _is_wide(x: jax.Array) -> bool:
    return x.shape[1] <= x.shape[2]


def _capped(members: list[int], stacks: list[jax.Array], cap: int) -> list[list[int]]:
    chunks: list[list[int]] = []
    size = 0
    for i in members:
        size += stacks[i].size * stacks[i].dtype.itemsize
        if not chunks or size > cap:
            chunks.append([])
            size = stacks[i].size * stacks[i].dtype.itemsize
        chunks[-1].append(i)
    return chunks

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

from gradtx._core.sharding import varying_axes

# A group is copied together, and on a CPU each result is put in its matrix' place: with the matrices
# themselves about twice this is live at the peak. Batched products elsewhere need four times as much.
GROUP_BYTES = 2**28


def map_groups(
    f: Callable[..., Any],
    stacks: list[tuple[jax.Array, ...]],
    *,
    transposes: bool = False,
    cap: int = GROUP_BYTES,
) -> list[tuple[jax.Array, ...]]:
    """`f` of each tuple of stacks `[batch, m, n]`, called once for all of one shape and dtype.

    Args:
        f: takes and returns stacks, and treats the matrices along their first axis separately.
        stacks: for every leaf its matrices, and whatever else has one entry per matrix.
        transposes: whether `f` commutes with the transpose; then wide and tall matrices of one size
            are brought together, all of them wide.
        cap: a group of more bytes is cut.
    """
    results: list[Any] = list(stacks)

    def turned(i: int) -> bool:
        return transposes and not _is_wide(stacks[i][0])

    def kind(i: int) -> Any:
        shape = stacks[i][0].shape[1:]
        rest = [(x.shape[1:], str(x.dtype)) for x in stacks[i][1:]]
        vary = sorted(map(str, varying_axes(stacks[i][0])))
        return sorted(shape) if transposes else shape, str(stacks[i][0].dtype), vary, rest

    for _, members in itertools.groupby(sorted(range(len(stacks)), key=kind), key=kind):
        for chunk in _capped(list(members), [x[0] for x in stacks], cap):
            inputs = [[x.mT if turned(i) else x for x in stacks[i]] for i in chunk]
            joined = [
                x[0] if len(x) == 1 else jnp.concatenate(x) for x in zip(*inputs, strict=True)
            ]
            sizes = [len(x[0]) for x in inputs]
            cuts = zip(*(_cut(x, sizes) for x in f(*joined)), strict=True)
            for i, own in zip(chunk, cuts, strict=True):
                results[i] = tuple(x.mT if turned(i) else x for x in own)
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

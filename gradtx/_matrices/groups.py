"""Matrices of one shape are brought together, so that one call works on all of them.

Tall matrices are transposed, and all are grouped by shape and dtype. Each group runs one traced
function, so that a program grows with the number of shapes and not with the number of leaves. The size
of a group is limited: without a limit, copies of all matrices of a model would be live at once.
"""

import itertools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.shapes import Alike, Matrices
from gradtx._core.sharding import varying_axes

# The limit of a group. Its matrices are copied into one stack, and on a CPU every result overwrites its
# matrix there, so that about twice this size is live at the peak, original matrices included. On other
# devices the batched products need four times as much.
GROUP_BYTES = 2**28

# An array with one entry per matrix along its first axis: the matrices, or a part of their state.
Batched = Annotated[jax.Array, "_ ..."]


def map_groups(
    f: Callable[..., Any],
    stacks: list[tuple[Batched, ...]],
    *,
    transposes: bool = False,
    cap: int = GROUP_BYTES,
) -> list[tuple[Batched, ...]]:
    """Apply `f` to the stacks of every leaf, in one call for all leaves of one shape and dtype.

    Args:
        f: a function that takes and returns stacks, and works on each entry of their first axis
            separately.
        stacks: for every leaf a tuple of stacks: first its matrices `[batch, m, n]`, then any other
            arrays with one entry per matrix.
        transposes: whether `f` commutes with the transpose. Then tall matrices are transposed, and so
            share a group with the wide ones of their size.
        cap: the largest size of a group in bytes. Leaves beyond it form another group.
    """
    results: list[Any] = list(stacks)

    def transposed(i: int) -> bool:
        return transposes and not _is_wide(stacks[i][0])

    def kind(i: int) -> Any:
        shape = stacks[i][0].shape[1:]
        rest = [(x.shape[1:], str(x.dtype)) for x in stacks[i][1:]]
        vary = sorted(map(str, varying_axes(stacks[i][0])))
        return sorted(shape) if transposes else shape, str(stacks[i][0].dtype), vary, rest

    for _, members in itertools.groupby(sorted(range(len(stacks)), key=kind), key=kind):
        for chunk in _capped(list(members), [x[0] for x in stacks], cap):
            inputs = [[x.mT if transposed(i) else x for x in stacks[i]] for i in chunk]
            joined = [
                x[0] if len(x) == 1 else jnp.concatenate(x) for x in zip(*inputs, strict=True)
            ]
            sizes = [len(x[0]) for x in inputs]
            cuts = zip(*(cut(x, sizes) for x in f(*joined)), strict=True)
            for i, parts in zip(chunk, cuts, strict=True):
                results[i] = tuple(x.mT if transposed(i) else x for x in parts)
    return results


def cut(x: Batched, sizes: list[int]) -> list[Batched]:
    """Cut `x` along its first axis into parts of the given sizes."""
    if len(sizes) == 1 or jax.default_backend() != "cpu":
        return jnp.split(x, list(itertools.accumulate(sizes))[:-1])
    # XLA:CPU compiles equal kernels once. A slice with a constant start is a different kernel for every
    # start, which was two thirds of the compile time of Muon. The result of a loop is not folded into a
    # constant, so every start is computed from such results: the loop moves 0, 1, ... through a queue,
    # which then holds all digits of a number system, and each start is put together from two digits.
    # A second queue holds the digits of the higher place, so that every start is the sum of two numbers.
    # JAX adds the length to a negative start, and to know its sign would take three more operations.
    base = math.isqrt(len(x) - 1) + 1

    def moved(i: Any, queues: Any) -> Any:
        low, high = queues
        i = i.astype(np.uint32)
        return (*low[1:], i), (*high[1:], i * np.uint32(base))

    zeros = (np.uint32(0),) * base
    low, high = jax.lax.fori_loop(0, base, moved, (zeros, zeros))
    starts = itertools.accumulate(sizes[:-1], initial=0)
    return [
        jax.lax.dynamic_slice_in_dim(x, high[i // base] + low[i % base], size)
        for i, size in zip(starts, sizes, strict=True)
    ]


def in_turn(f: Callable[[jax.Array], jax.Array], stack: Alike) -> Alike:
    """Apply `f` to the matrices of a stack one after another, each result in the place of its matrix.

    This needs less memory than `lax.map`, which holds a second stack.
    """

    def replace(i: Any, stack: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(stack, f(stack[i]), i, 0)

    return jax.lax.fori_loop(0, len(stack), replace, stack)


def _is_wide(x: Matrices) -> bool:
    return x.shape[1] <= x.shape[2]


def _capped(members: list[int], stacks: list[Batched], cap: int) -> list[list[int]]:
    """Cut `members` into lists whose stacks take at most `cap` bytes, unless one stack is larger."""
    chunks: list[list[int]] = []
    size = 0
    for i in members:
        size += stacks[i].size * stacks[i].dtype.itemsize
        if not chunks or size > cap:
            chunks.append([])
            size = stacks[i].size * stacks[i].dtype.itemsize
        chunks[-1].append(i)
    return chunks

"""What a basis computes for one leaf: jitted functions, traced once for all leaves of one shape."""

import functools
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._bases.basis import Basis, Now, seeds_of_matrices
from gradtx._core.branches import choose
from gradtx._core.dtypes import cast_floating, compute_dtype, like, real_dtype
from gradtx._core.numbers import called
from gradtx._core.numerics import squarable
from gradtx._core.shapes import InBasis, Leaf, Matrices, Scalar
from gradtx._core.sharding import replicated, resharded
from gradtx._matrices.matrix_axes import MatrixAxes
from gradtx._matrices.parts import pack, unpack


class Static(tuple):
    """What is known when a function is traced: a hashable tuple.

    It holds the structure of the basis, the axes of the matrices, the method, what else the method needs
    to know, and the shapes of the states of unequal parts.
    """

    def __new__(cls, *items: Any) -> "Static":
        return super().__new__(cls, items)

    def basis(self, arrays: Any, dtype: Any) -> Basis:
        """The basis, with its numbers in the precision of `dtype`."""
        return self[0].join(iter(cast_floating(arrays, dtype)), iter(()))

    def states(self, state: list[Any], dtype: Any) -> list[Any]:
        """The state of every part."""
        whole = [replicated(x)[0] for x in cast_floating(list(state), dtype)]
        form = state_form(self[0].structure)
        return [form.unflatten(own) for own in unpack(whole, [list(x) for x in self[4]])]


def _promoting(dtype: Any) -> Any:
    # A complex matrix meets real eigenvalues, which strict promotion would refuse.
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return jax.numpy_dtype_promotion("standard") if is_complex else nullcontext()


@functools.partial(jax.jit, static_argnums=0)
def turned(static: Static, arrays: Any, x: Leaf, state: list[Any]) -> Any:
    """A leaf in the basis, or back from it."""
    _, axes, method, shape, _ = static
    dtype = compute_dtype(x)
    basis = static.basis(arrays, dtype)
    x, back = replicated(x.astype(dtype))
    if not x.size:
        return jnp.zeros(shape, dtype)
    with _promoting(dtype):
        out = turned_parts(basis, method, axes.split_parts(x), static.states(state, dtype))
    new = axes.join_parts(out, shape).astype(dtype)
    return back(new) if shape == x.shape else new


@functools.partial(jax.jit, static_argnums=0)
def learned(
    static: Static,
    arrays: Any,
    x: Leaf,
    state: list[Any],
    step: Scalar,
    seed: Scalar,
    moments: list[Any],
) -> tuple[list[Any], list[Any]]:
    """The states of the bases of a leaf after one gradient, and its inner arrays in the new bases."""
    _, axes, _, degrees, _ = static
    dtype = compute_dtype(x)
    basis = static.basis(arrays, dtype)
    parts = axes.split_parts(replicated(x.astype(dtype))[0])
    nows = [Now(step, seeds_of_matrices(seed, len(part))) for part in parts]
    with _promoting(dtype):
        old = learned_parts(basis, parts, static.states(state, dtype), nows)

        def refreshed() -> Any:
            new = refreshed_parts(basis, parts, old, nows)
            turned = [
                _carried_leaf(basis, axes, degree, y, old, new, dtype)
                for degree, y in zip(degrees, moments, strict=True)
            ]
            return as_before(jax.tree.leaves(pack(new)), state), turned

        def kept() -> Any:
            return as_before(jax.tree.leaves(pack(old)), state), moments

        return choose(basis.due(step), refreshed, kept)


@functools.partial(jax.jit, static_argnums=0)
def carried(static: Static, arrays: Any, y: Leaf, old: list[Any], new: list[Any]) -> Leaf:
    """An array of the inner state, taken from the old bases of its leaf to the new ones."""
    dtype = compute_dtype(y)
    basis = static.basis(arrays, dtype)
    with _promoting(dtype):
        states = [static.states(x, dtype) for x in (old, new)]
        return _carried_leaf(basis, static[1], static[3][0], y, states[0], states[1], dtype)


def _carried_leaf(
    basis: Basis, axes: MatrixAxes, degree: int, y: Leaf, old: list[Any], new: list[Any], dtype: Any
) -> Leaf:
    # A second moment is real, also where the matrices are complex.
    is_real = jnp.issubdtype(y.dtype, jnp.floating)
    wide, back = replicated(y.astype(real_dtype(dtype) if is_real else dtype))
    parts = carried_parts(basis, degree, axes.split_parts(wide), old, new)
    return like(back(axes.join_parts(parts, y.shape)), y)


# In these functions, a leaf is the list of its unequal parts, `[batch, in, out]`, which is one part if
# its matrices have one size. There is one state for each part.


def turned_parts(basis: Basis, method: str, parts: list[Any], states: list[Any]) -> list[Any]:
    """The matrices in the basis, or back from it."""
    rows = zip(parts, states, strict=True)
    return [called(basis, method, part, own) for part, own in rows]


def learned_parts(
    basis: Basis, parts: list[Matrices], states: list[Any], nows: list[Now]
) -> list[Any]:
    """The states after a gradient, before a refresh."""
    rows = zip(parts, states, nows, strict=True)
    return [called(basis, "learn", _bounded(part), own, now) for part, own, now in rows]


def refreshed_parts(
    basis: Basis, parts: list[Matrices], states: list[Any], nows: list[Now]
) -> list[Any]:
    """The states with new bases."""
    rows = zip(parts, states, nows, strict=True)
    return [called(basis, "refresh", _bounded(part), own, now) for part, own, now in rows]


def carried_parts(
    basis: Basis, degree: int, parts: list[InBasis], old: list[Any], new: list[Any]
) -> list[InBasis]:
    """An array of the inner state, taken from the old bases to the new ones."""
    rows = zip(parts, old, new, strict=True)
    return [called(basis, "carry", part, degree, a, b) for part, a, b in rows]


def _bounded(part: Matrices) -> Matrices:
    return squarable(part, 4 * int(np.prod(part.shape[1:])))


def as_before(new: list[Any], old: list[Any]) -> list[Any]:
    """New arrays with the dtypes of old ones and, on an Explicit mesh, with their shardings."""
    return [resharded(x, o) for x, o in zip(like(new, old), old, strict=True)]


def structure_of_state(basis: Basis) -> Any:
    """The structure of the state of a basis, which does not depend on the matrices."""
    return state_form(jax.tree.structure(basis))


@functools.lru_cache(maxsize=64)
def state_form(key: Any) -> Any:
    """The structure of the state of a basis with this structure."""
    basis = key.unflatten([1.0] * key.num_leaves)
    return jax.tree.structure(
        jax.eval_shape(lambda: basis.init_matrix(jax.ShapeDtypeStruct((1, 1, 1), jnp.float32)))
    )

"""The state of one leaf: which of its entries are arrays, and which are scalars that all leaves share.

`init_leaf` (or `init_matrix`) returns the state of one leaf: a NamedTuple of arrays. In it, `shared(0)`
stands for a scalar that all leaves share, and in a wrapper the argument `inner` stands for the state of
the inner transformation. `layout_of` evaluates the method abstractly and records in a `Layout` which
entry is which.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from gradtx._core.arguments import explained
from gradtx._core.authors import Shared, first_non_array, hook_name
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.static import show
from gradtx._core.trees import path_string


class shared:
    """Declare a scalar in the state that all leaves share, such as a count of steps.

    `init_leaf` puts the scalar into the state, and `begin` advances the scalar once per step.
    `update_leaf` cannot use it. The values that `begin` computes from the scalar and returns are the
    last argument of `update_leaf`.

    Args:
        value: the value before the first step: a number, a small NumPy array or a random key. Bools
            stay bools, integers are stored as int32, and other numbers as float32, or as float64 if 64
            bits are enabled.

    Raises:
        TypeError: if `value` is neither a number, an array of numbers nor a random key, or if it is
            not known when `init_leaf` is called.

    >>> import gradtx
    >>> gradtx.shared(0), gradtx.shared(0.0)
    (shared(0), shared(0.0))
    """

    @explained
    def __init__(self, value: ArrayLike) -> None:
        if isinstance(value, Tracer):
            raise TypeError(
                "`shared(...)` must start from a value that is known in advance, and this value was "
                "computed in `init_leaf` with JAX. Compute it with NumPy, or outside of the class."
            )
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
            self.value = value  # a key for random numbers
            return
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"`shared({show(value)})` must be a number, an array of numbers or a random key, since "
                "it starts a scalar of the state that all leaves share."
            )
        kinds = {"b": np.bool_, "i": np.int32, "u": np.int32, "f": scalar_dtype()}
        self.value = array.astype(kinds[array.dtype.kind])

    def fresh(self) -> jax.Array:
        """The value as a JAX array with a new buffer."""
        return jnp.array(self.value, copy=True)

    def __repr__(self) -> str:
        return (
            f"shared({self.value.tolist() if isinstance(self.value, np.ndarray) else self.value})"
        )

    def _key(self) -> Any:
        known = isinstance(self.value, np.ndarray)
        data = self.value if known else np.asarray(jax.random.key_data(self.value))
        return data.shape, str(self.value.dtype), data.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, shared) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class Inner:
    """A placeholder, in the state of a wrapper, for the state of the inner transformation."""

    def __repr__(self) -> str:
        return "inner"


INNER = Inner()
# Pytrees without leaves, so that `jax.eval_shape` returns the placeholders unchanged.
jax.tree_util.register_pytree_node(shared, lambda x: ((), x), lambda x, _: x)
jax.tree_util.register_pytree_node(Inner, lambda x: ((), None), lambda _, __: INNER)
jax.tree_util.register_pytree_node(Shared, lambda x: ((), x), lambda x, _: x)


def is_placeholder(x: Any) -> bool:
    """Whether `x` stands in a state for something other than an array of the leaf."""
    return isinstance(x, shared | Inner)


class Layout:
    """The structure of the state of one leaf, and what stands at each position in it.

    Attributes:
        structure: the structure of the state, in which shared scalars and the inner state are leaves.
        arrays: the positions of the arrays.
        scalars: the positions of the shared scalars.
        shared: the shared scalars as the author declared them.
        starts: the values of the shared scalars before the first step, as NumPy arrays or random keys.
        inner: the position of the state of the inner transformation, or None.
        owner: the name of the transformation, for messages.
    """

    def __init__(self, state: Any, owner: str = "") -> None:
        self.owner = owner
        entries, self.structure = jax.tree.flatten(state, is_leaf=is_placeholder)
        self.size = len(entries)
        self.arrays = tuple(i for i, x in enumerate(entries) if not is_placeholder(x))
        self.scalars = tuple(i for i, x in enumerate(entries) if isinstance(x, shared))
        self.shared = tuple(x for x in entries if isinstance(x, shared))
        self.starts = tuple(x.value for x in self.shared)
        self.inner = next((i for i, x in enumerate(entries) if isinstance(x, Inner)), None)
        self.key = self.structure, self.arrays, self.scalars
        self._placeholders: list[Any] = [None] * self.size
        for i in self.scalars:
            self._placeholders[i] = Shared(self, i)

    def fill(self, positions: tuple[int, ...], values: Any) -> Any:
        """A state with these values at these positions, and placeholders at all others."""
        flat = self._placeholders.copy()
        for i, x in zip(positions, values, strict=True):
            flat[i] = x
        return self.structure.unflatten(flat)

    def pick(self, positions: tuple[int, ...], state: Any) -> list[Any]:
        """The entries of a state at these positions.

        Raises:
            ValueError: if the state has another structure.
        """
        return list(map(self.structure.flatten_up_to(state).__getitem__, positions))

    def first_arrays(self, state: Any, tx: Any, shape: tuple[int, ...]) -> list[Any]:
        """The arrays of the state in which a parameter of this shape starts.

        Raises:
            TypeError: if the state has another structure, so that a method of the author made it so.
        """
        try:
            return self.pick(self.arrays, state)
        except (ValueError, TypeError):
            pass
        raise TypeError(
            f"{hook_name(tx, 'init')} must return states of one structure for all parameters, and the "
            f"state of a parameter of shape {shape} differs from the state of the first one. Where "
            "there is nothing to keep, return an array without elements, `jnp.zeros(0)`, and not None."
        )

    @functools.cached_property
    def names(self) -> list[str]:
        """The name of every position, such as `count` or `moments/0`, for messages."""
        state = self.structure.unflatten(range(self.size))
        return [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]

    @functools.cached_property
    def empty(self) -> Any:
        """The state of a leaf, for a layout without entries."""
        return self.structure.unflatten([])

    @functools.cached_property
    def step(self) -> int | None:
        """The index, among the shared scalars, of the one named `step`; None if there is none."""
        names = getattr(self.structure.unflatten(range(self.size)), "_fields", ())
        position = names.index("step") if "step" in names else None
        return self.scalars.index(position) if position in self.scalars else None


@functools.lru_cache(maxsize=1024)
def layout_of(init: Any, key: Any, shape: tuple[int, ...], scalars: Any) -> Layout:
    """The layout of the state of one leaf.

    Args:
        init: the function `(tx, array) -> state` that makes the state of a leaf.
        key: the pytree structure of the transformation `tx`. Every number and array in `tx` is replaced
            by 1.0, because the structure of the state does not depend on them.
        shape: the shape of the leaf.
        scalars: the dtype of shared scalars. It is part of the cache's key, since it follows JAX's
            setting for 64 bits.
    """
    tx = key.unflatten([1.0] * key.num_leaves)
    wrong: list[Any] = []

    def make(x: Any) -> Any:
        state = init(tx, x)
        # The state itself must not outlive the trace: JAX's check for leaked tracers would find it.
        wrong.extend(first_non_array(state, is_placeholder))
        return state

    try:
        state = jax.eval_shape(make, jax.ShapeDtypeStruct(shape, jnp.float32))
    except TypeError:
        if wrong:
            raise TypeError(
                f"{hook_name(tx, 'init')} put {show(wrong[0])} into the state, which holds arrays only. "
                "Make an array with `gradtx.accumulator(param)`; keep anything else in a field."
            ) from None
        raise
    return Layout(state, type(getattr(tx, "unit", tx)).__name__)

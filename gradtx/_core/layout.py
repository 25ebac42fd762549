"""The state of one unit of work: which of its fields are arrays, and which all units share.

An author describes the state once, in `init_leaf` (or `init_matrix`): a NamedTuple of arrays, of
`shared(0)` where all leaves share a scalar, and of what is handed in where the state of an inner
transformation stands. A `Layout` is what the library reads off that description.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gradtx._core.authors import Shared, first_non_array, hook_name
from gradtx._core.dtypes import scalar_dtype
from gradtx._core.static import show
from gradtx._core.trees import path_string


class shared:
    """A scalar in the state of a leaf that all leaves share: a count, a rate, a running product.

    Args:
        value: what the scalar starts from, a number or a small NumPy array.

    `init_leaf` puts it into the state, `begin` advances it once per step, and `update_leaf` does not
    see it. Whole numbers are kept as int32, others as float32 (float64 where that is enabled). Raises
    `TypeError` for what is not a number.

    >>> import gradtx
    >>> gradtx.shared(0), gradtx.shared(0.0)
    (shared(0), shared(0.0))
    """

    def __init__(self, value: Any) -> None:
        if isinstance(value, Tracer):
            raise TypeError(
                "`shared(...)` must start from a known value, and this one was computed in "
                "`init_leaf`. Compute it before, outside of the class, or pass a NumPy array."
            )
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
            self.value = value  # a key for random numbers
            return
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"`shared({show(value)})` must be a number, an array of numbers or a random key: it is "
                "a scalar of the state, which all leaves share."
            )
        kinds = {"b": np.bool_, "i": np.int32, "u": np.int32, "f": scalar_dtype()}
        self.value = array.astype(kinds[array.dtype.kind])

    def fresh(self) -> jax.Array:
        """The value as an array with a buffer of its own."""
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
    """Stands in a wrapper's state where the state of the inner transformation belongs."""

    def __repr__(self) -> str:
        return "inner"


INNER = Inner()
# Without leaves, so that both survive an abstract evaluation.
jax.tree_util.register_pytree_node(shared, lambda x: ((), x), lambda x, _: x)
jax.tree_util.register_pytree_node(Inner, lambda x: ((), None), lambda _, __: INNER)
jax.tree_util.register_pytree_node(Shared, lambda x: ((), x), lambda x, _: x)


def is_mark(x: Any) -> bool:
    """Whether `x` stands in a state for something that is not an array of the unit."""
    return isinstance(x, shared | Inner)


class Layout:
    """The structure of a unit's state, and what stands at each of its positions.

    `arrays` and `scalars` are the positions of arrays and of shared scalars, `starts` what the shared
    scalars start from; `inner` is the position of the inner state, if there is one. `owner` is the name
    of the transformation.
    """

    def __init__(self, state: Any, owner: str = "") -> None:
        self.owner = owner
        entries, self.structure = jax.tree.flatten(state, is_leaf=is_mark)
        self.size = len(entries)
        self.arrays = tuple(i for i, x in enumerate(entries) if not is_mark(x))
        self.scalars = tuple(i for i, x in enumerate(entries) if isinstance(x, shared))
        self.shared = tuple(x for x in entries if isinstance(x, shared))
        self.starts = tuple(x.value for x in self.shared)
        self.inner = next((i for i, x in enumerate(entries) if isinstance(x, Inner)), None)
        self.key = self.structure, self.arrays, self.scalars
        self._blank: list[Any] = [None] * self.size
        for i in self.scalars:
            self._blank[i] = Shared(self, i)

    def fill(self, positions: tuple[int, ...], values: Any) -> Any:
        """A state with these values at these positions, and placeholders at all others."""
        flat = self._blank.copy()
        for i, x in zip(positions, values, strict=True):
            flat[i] = x
        return self.structure.unflatten(flat)

    def pick(self, positions: tuple[int, ...], state: Any) -> list[Any]:
        """The entries of a state at these positions. Raises `ValueError` for another structure."""
        return list(map(self.structure.flatten_up_to(state).__getitem__, positions))

    @functools.cached_property
    def names(self) -> list[str]:
        """The name of every position, `count` or `moments/0`, for messages."""
        state = self.structure.unflatten(range(self.size))
        return [path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]

    @functools.cached_property
    def empty(self) -> Any:
        """The state of a transformation that keeps nothing."""
        return self.structure.unflatten([])

    @functools.cached_property
    def step(self) -> int | None:
        """Which of the shared scalars is called `step`, where the state is a NamedTuple with one."""
        names = getattr(self.structure.unflatten(range(self.size)), "_fields", ())
        position = names.index("step") if "step" in names else None
        return self.scalars.index(position) if position in self.scalars else None


@functools.lru_cache(maxsize=1024)
def layout_of(init: Any, key: Any, shape: tuple[int, ...], scalars: Any) -> Layout:
    """The layout of the states that a transformation makes for arrays of this shape.

    `init(tx, array)` makes one of them; `key` is the structure of `tx`, in which 1.0 stands for every
    number and array, since they do not decide the structure of a state. `scalars` is the dtype of shared
    scalars, which follows JAX's setting for 64 bits.
    """
    tx = key.unflatten([1.0] * key.num_leaves)
    made: list[Any] = []

    def make(x: Any) -> Any:
        made.append(init(tx, x))
        return made[0]

    try:
        state = jax.eval_shape(make, jax.ShapeDtypeStruct(shape, jnp.float32))
    except TypeError:
        if made and (wrong := first_non_array(made[0], is_mark)):
            raise TypeError(
                f"{hook_name(tx, 'init')} put {show(wrong[0])} into the state, which holds arrays only. "
                "Make an array with `gradtx.accumulator(param)`; keep anything else in a field."
            ) from None
        raise
    return Layout(state, type(getattr(tx, "unit", tx)).__name__)

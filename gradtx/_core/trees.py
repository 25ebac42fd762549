"""Trees of arrays: what counts as a leaf, where it stands, and in which dtype it is worked on.

Inside the library a tree has `None` wherever there is nothing to do: an integer or non-array leaf of
the parameters, a leaf that another group owns, a missing gradient. All maps skip it.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

PyTree = Any
Structure = Any  # a `PyTreeDef`, which type checkers know as a value only


def is_none(x: Any) -> bool:
    """For `is_leaf`: None marks a leaf where there is nothing to do."""
    return x is None


def flatten(tree: PyTree) -> tuple[list[Any], Structure]:
    """Leaves and structure, with `None` as a leaf."""
    return jax.tree.flatten(tree, is_leaf=is_none)


def tree_map(f: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """`jax.tree.map` that leaves `None` alone wherever the first tree has it."""
    return jax.tree.map(
        lambda x, *xs: None if x is None else f(x, *xs), tree, *rest, is_leaf=is_none
    )


def path_string(path: tuple[Any, ...]) -> str:
    """A key path as people write it: `layers/0/attention/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf of `flatten(tree)`, in its order: that of its box if it is in one."""
    with_path, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    boxes = {p for p, x in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box) if _is_box(x)}
    return [path_string(p[:-1] if p[:-1] in boxes else p) for p, _ in with_path]


def _is_box(x: Any) -> bool:
    # Flax's variables and partitioned arrays. `nnx.Optimizer` shows them at init and not at update, and
    # a leaf must not change its name for that.
    return hasattr(type(x), "raw_value") or hasattr(type(x), "unbox")


def is_inexact(x: Any) -> bool:
    """Whether `x` is something that is optimized: a floating or complex array, or a Python number."""
    dtype = getattr(x, "dtype", None)
    return isinstance(x, float | complex) if dtype is None else _is_inexact_dtype(dtype)


@functools.lru_cache
def _is_inexact_dtype(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))


@functools.lru_cache
def promote(*dtypes: Any) -> jnp.dtype:
    """The common dtype of `dtypes`, also where strict promotion is on: our casts are deliberate."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(functools.reduce(jnp.promote_types, dtypes))


def compute_dtype(*arrays: Any) -> jnp.dtype:
    """The dtype in which arrays are worked on: their promotion, and float32 at least."""
    return promote(jnp.float32, *(x.dtype for x in arrays if x is not None))


def result_dtype(update: Any, param: Any) -> jnp.dtype:
    """The dtype in which an update leaves: the promotion of the gradient's and the parameter's."""
    return promote(*(x.dtype for x in (update, param) if x is not None))


def real_dtype(dtype: Any) -> jnp.dtype:
    """The real dtype of the same precision."""
    return jnp.dtype(jnp.finfo(dtype).dtype)


def scalar_dtype() -> jnp.dtype:
    """The widest real dtype there is: scalars that all leaves share are computed in it."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(np.float64))


def scalar(x: ArrayLike) -> jax.Array:
    """A strongly typed real scalar (or array of hyperparameters) in `scalar_dtype()`."""
    return jax.lax.convert_element_type(x, scalar_dtype())


def accumulator(
    param: Any, dtype: Any = None, *, real: bool = False, fill: ArrayLike = 0.0
) -> jax.Array:
    """An array like `param` to accumulate in.

    Its dtype is `dtype` (default: the parameter's, and float32 at least), made real for `real`
    (second moments) and kept complex for a complex parameter otherwise. It has the shape and the
    sharding of `param`, and holds `fill`.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.accumulator(jnp.ones(2, jnp.bfloat16))
    Array([0., 0.], dtype=float32)
    """
    wide = jnp.dtype(dtype or promote(param.dtype, jnp.float32))
    if not jnp.issubdtype(wide, jnp.inexact):
        raise TypeError(
            f"An average cannot be kept in {wide}: its dtype must be floating or complex."
        )
    if real:
        wide = real_dtype(wide)
    elif jnp.issubdtype(param.dtype, jnp.complexfloating):
        wide = promote(wide, jnp.complex64)
    return jnp.full_like(param, fill, dtype=wide)


def abs_square(x: jax.Array) -> jax.Array:
    """|x|^2 as a real array."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def squarable(x: jax.Array) -> jax.Array:
    """`x` with entries that are too large to be squared brought down to where they can be.

    For what divides by a root mean square, only the direction of such an entry can matter; but its
    square would be infinite, and the state lost for good. An infinite entry is brought down too: in
    the numerator, by `bounded`, it stays and shows.
    """
    limit = 2.0 ** (jnp.finfo(real_dtype(x.dtype)).maxexp // 2 - 1)
    if jnp.iscomplexobj(x):
        # By the larger part, since the absolute value of a finite number may be infinite.
        size = jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
        shrink = jnp.where(size > limit, limit / usable(size), jnp.ones_like(size))
        return jax.lax.complex(x.real * shrink, x.imag * shrink)
    # One operation: XLA computes it again wherever it is used, where it would write more to memory.
    return jnp.clip(x, -limit, limit)


def bounded(x: jax.Array) -> jax.Array:
    """`squarable(x)`, but infinite where `x` is: what stands beside its own squares."""
    return jnp.where(jnp.isinf(x), x, squarable(x))


def cast_floating(tree: PyTree, dtype: Any) -> PyTree:
    """Floating arrays of `tree` in the precision of `dtype`, complex ones kept complex."""
    real = real_dtype(dtype)
    widest = promote(real, jnp.complex64)

    def cast(x: Any) -> Any:
        if not isinstance(x, jax.Array | np.ndarray) or not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        return jax.lax.convert_element_type(x, widest if jnp.iscomplexobj(x) else real)

    return jax.tree.map(cast, tree)


def like(new: PyTree, old: PyTree) -> PyTree:
    """`new` with the dtypes of `old`, strongly typed: what keeps a state's type fixed."""
    return jax.tree.map(lambda n, o: cast(n, o.dtype), new, old)


def cast(x: Any, dtype: Any) -> jax.Array:
    """`x` as a strongly typed array of this dtype. Keys of random numbers have one that is their own."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return x
    return jax.lax.convert_element_type(x, jnp.dtype(dtype))


@jax.custom_jvp
def sqrt(x: jax.Array) -> jax.Array:
    """The square root, with slope 0 at 0."""
    return jnp.sqrt(x)


@sqrt.defjvp
def _sqrt_jvp(primals: Any, tangents: Any) -> Any:
    # The slope at 0 is infinite; in a quotient with epsilon the true derivative there is that of the
    # numerator alone, so the root contributes 0.
    (x,), (dx,) = primals, tangents
    y = jnp.sqrt(x)
    zero = y == 0
    return y, jnp.where(zero, jnp.zeros_like(dx), dx / (2 * jnp.where(zero, jnp.ones_like(y), y)))


def global_norm(tree: PyTree) -> jax.Array:
    r"""The Euclidean norm of all arrays of `tree` together, $\sqrt{\sum |x|^2}$, without overflow.

    Reduced in float32 at least. Squares of numbers above 1e19 overflow and below 1e-19 vanish, so when
    the plain sum leaves the safe range, and only then, it is taken again on the scaled arrays.

    >>> import gradtx, jax.numpy as jnp
    >>> f"{gradtx.global_norm({'a': jnp.array([3e30]), 'b': jnp.array([4e30])}):.4g}"
    '5e+30'
    """
    unit, ratio = norm_parts(tree)
    return unit * ratio


@jax.jit  # called eagerly too, where `cond` would be compiled at every step
def norm_parts(tree: PyTree) -> tuple[jax.Array, jax.Array]:
    """The global norm as two factors, since that of finite arrays may itself be beyond all numbers."""
    leaves = [x for x in jax.tree.leaves(tree) if x.size]
    dtype = real_dtype(compute_dtype(*leaves))
    parts = [part.astype(dtype) for x in leaves for part in real_parts(x)]
    if not parts:
        return jnp.ones((), dtype), jnp.zeros((), dtype)
    plain = sum(jnp.sum(jnp.square(x)) for x in parts)
    limits = jnp.finfo(dtype)
    safe = (plain > limits.tiny / limits.eps) & (plain < limits.max)
    return jax.lax.cond(safe, lambda _: (jnp.ones((), dtype), sqrt(plain)), _scaled, parts)


def _scaled(parts: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in parts]))
    # Within what has a reciprocal: who divides by the unit may multiply by that instead. The norm does
    # not depend on it, so nor does the derivative.
    limits = jnp.finfo(largest.dtype)
    unit = jnp.clip(usable(largest), limits.tiny, limits.max * 2.0**-16)
    unit = jax.lax.stop_gradient(unit)
    return unit, sqrt(sum(jnp.sum(jnp.square(x / unit)) for x in parts))


def real_parts(x: jax.Array) -> tuple[jax.Array, ...]:
    """`x`, or the real and the imaginary part of a complex one."""
    return (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)


def usable(unit: jax.Array) -> jax.Array:
    """`unit`, or 1 where one cannot divide by it; what is not finite goes through and shows."""
    return jnp.where((unit > 0) & (unit < jnp.inf), unit, jnp.ones_like(unit))


def leaf_items(tree: PyTree) -> Iterator[tuple[str, Any]]:
    """`(path, leaf)` of every leaf that is not None."""
    leaves, _ = flatten(tree)
    return ((p, x) for p, x in zip(paths(tree), leaves, strict=True) if x is not None)

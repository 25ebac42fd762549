"""Reading arrays from text, of numeric dtypes only."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.printed import DTYPES


def numpy_array(values: Any, shape: Any = None, dtype: Any = None) -> np.ndarray:
    """The array of NumPy that prints with these arguments.

    Args:
        values: a number, or nested lists of numbers.
        shape: the shape of an array without entries.
        dtype: the name of a numeric dtype.

    Raises:
        TypeError: if there is anything else in `values`, or if `dtype` is not a numeric dtype.
        ValueError: if the lists differ in length, or if a number does not fit into the dtype.
    """
    if dtype is not None and dtype not in DTYPES:
        raise TypeError(
            f"`dtype` must be a numeric dtype, such as float32, not {described(dtype)}."
        )
    _check_numbers(
        [values], dtype is not None and not jnp.issubdtype(jnp.dtype(dtype), jnp.inexact)
    )
    try:
        # Without the check above, NumPy would make room for the longest of several strings.
        with np.errstate(over="raise", invalid="raise"):
            made = np.asarray(values, None if dtype is None else jnp.dtype(dtype))
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"the numbers do not fit into {dtype or 'one dtype'} ({error}).") from None
    except ValueError:
        raise ValueError("the lists inside an array must have the same lengths.") from None
    if made.dtype.name not in DTYPES:
        raise ValueError("a number is too large for an array.")
    return made if shape is None else made.reshape(_empty_shape(shape, made))


def jax_array(
    values: Any, shape: Any = None, dtype: Any = None, weak_type: bool = False
) -> jax.Array:
    """The array of JAX that prints with these arguments.

    Args:
        values: a number, or nested lists of numbers.
        shape: the shape of an array without entries.
        dtype: the name of a numeric dtype.
        weak_type: whether the dtype yields to that of another array in an operation.

    Raises:
        TypeError: if there is anything else in `values`, or if `dtype` is not a numeric dtype.
        ValueError: if the lists differ in length, if a number does not fit into the dtype, or if the
            dtype needs 64 bits, which are not enabled.
    """
    entries = numpy_array(values, shape, dtype)
    allowed = jax.dtypes.canonicalize_dtype(entries.dtype)
    if dtype is not None and allowed != entries.dtype:
        raise ValueError(f"an array of JAX can be {dtype} only if `jax_enable_x64` is set.")
    made = jnp.asarray(entries, allowed)
    return _weak(made) if weak_type is True else made


def _weak(x: jax.Array) -> jax.Array:
    """The same array with a weak type, which only the dtypes of Python's numbers can have."""
    filled = jnp.full(x.shape, {"f": 0.0, "i": 0, "c": 0j}.get(x.dtype.kind, False))
    if filled.dtype != x.dtype or not filled.weak_type:
        raise ValueError(f"an array of {x.dtype} cannot have a weak type.")
    return filled.at[...].set(x)


def _check_numbers(values: Iterable[Any], whole: bool) -> None:
    """Refuse nested lists that hold anything but numbers, or but whole numbers and bools."""
    todo = list(values)
    while todo:
        x = todo.pop()
        if isinstance(x, list | tuple):
            todo.extend(x)
        elif not isinstance(x, int | float | complex):
            raise TypeError(f"an array holds numbers only, and not {described(x)}.")
        elif whole and not isinstance(x, int):
            raise TypeError(f"an array of this dtype holds whole numbers only, and not {x!r}.")


def _empty_shape(shape: Any, entries: np.ndarray) -> tuple[int, ...]:
    if isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**31 for n in shape):
        if entries.size == 0 and 0 in shape and len(shape) <= 32:
            return shape
        if entries.shape == shape:
            return shape
    raise ValueError(
        f"`shape` must be the shape of the array; an array without entries has a length of 0 in it, "
        f"and not {described(shape)}."
    )

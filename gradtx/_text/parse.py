"""Reading optimizers from text: configuration files, command lines, logs."""

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.foreign import foreign
from gradtx._core.values import Value
from gradtx._matrices.polynomials import polar_express
from gradtx._text.grammar import Called, Parser

_MAX_LENGTH = 100_000

_DTYPES = """bool bfloat16 float16 float32 float64 complex64 complex128
    int8 int16 int32 int64 uint8 uint16 uint32 uint64"""
_LITERALS = {"None": None, "True": True, "False": False, "inf": math.inf, "nan": math.nan}


def parse(text: str, names: Mapping[str, Any] | None = None) -> Any:
    """The transformation (or rule, or schedule) that `text` says, read without evaluating code.

    `parse(repr(tx)) == tx` for every `tx` that holds no function of the user's own.

    Args:
        text: calls of gradtx's public names with positional and keyword arguments; numbers, `inf`,
            strings, `True`, `False`, `None`, tuples, lists, dicts; `+ - * /` between transformations
            and numbers; arrays as JAX and NumPy print them; comments and line breaks.
        names: further names that may occur: classes of values, which are called, and anything else
            (a schedule, a function) as it is.

    Raises `ValueError` for anything else, and for arguments that a constructor refuses. The message
    shows the line with a caret under the place, and the nearest name.

    >>> import gradtx
    >>> gradtx.parse("chain(clip_by_global_norm(1.0), adamw(3e-4, b2=0.95))")
    chain(clip_by_global_norm(1.0), adamw(0.0003, b2=0.95))
    """
    if not isinstance(text, str):
        raise ValueError(f"`parse` reads text, not {type(text).__name__}.")
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"`parse` reads at most {_MAX_LENGTH} characters, not {len(text)}.")
    return Parser(text, _vocabulary() | _callable(names or {})).value()


@functools.cache
def _vocabulary() -> dict[str, Any]:
    import gradtx  # the public names, this module's among them

    face = {k: x for k, x in vars(gradtx).items() if not k.startswith("_")}
    # Base classes have names with a capital, and make nothing by themselves.
    public = {k: x for k, x in face.items() if k[0].islower() and x is not foreign}
    arrays = {"Array": Called(_jax_array), "array": Called(_numpy_array)}
    called = {k: x for k, x in _callable(public).items() if isinstance(x, Called)}
    dtypes = {name: name for name in _DTYPES.split()}
    return _LITERALS | dtypes | arrays | called


def _callable(names: Mapping[str, Any]) -> dict[str, Any]:
    """`names`, with those that make values marked: classes, and functions that say they return one."""

    def makes(x: Any) -> bool:
        made = x.__annotations__.get("return") if inspect.isfunction(x) else x
        return x is polar_express or (isinstance(made, type) and issubclass(made, Value))

    return {name: Called(x) if makes(x) else x for name, x in names.items()}


def _jax_array(values: Any, dtype: Any = None, weak_type: bool = False) -> jax.Array:
    return jnp.asarray(values, dtype)


def _numpy_array(values: Any, dtype: Any = None) -> np.ndarray:
    return np.asarray(values, dtype)

"""Reading optimizers from the text of configuration files, command lines and logs."""

import functools
import inspect
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.foreign import foreign
from gradtx._core.values import Value
from gradtx._matrices.polar_express import polar_express
from gradtx._text.grammar import Called, Parser

_MAX_LENGTH = 100_000

_DTYPES = """bool bfloat16 float16 float32 float64 complex64 complex128
    int8 int16 int32 int64 uint8 uint16 uint32 uint64"""
_LITERALS = {"None": None, "True": True, "False": False, "inf": math.inf, "nan": math.nan}


def parse(text: str, names: Mapping[str, Any] | None = None) -> Any:
    """The transformation, rule or schedule that a text describes, read without evaluating code.

    `parse(repr(tx)) == tx` holds for every `tx` that contains no function written by the user.

    Args:
        text: calls of gradtx's public names with positional and keyword arguments; numbers, `inf`,
            strings, `True`, `False`, `None`, tuples, lists and dicts; `+ - * /` between transformations
            and numbers; arrays as JAX and NumPy print them; comments and line breaks.
        names: more names that the text may use, and their meanings. A class of values is called in the
            text; every other object, such as a schedule or a function, is used by its name alone.

    Raises:
        ValueError: if `text` is not a string, if it contains anything else, or if a constructor refuses
            its arguments. The message shows the line with a caret under the place, and suggests the
            nearest name.

    >>> import gradtx
    >>> gradtx.parse("chain(clip_by_global_norm(1.0), adamw(3e-4, b2=0.95))")
    chain(clip_by_global_norm(1.0), adamw(0.0003, b2=0.95))
    """
    if not isinstance(text, str):
        raise ValueError(f"`parse(text)` needs a string, not {described(text)}.")
    if len(text) > _MAX_LENGTH:
        raise ValueError(
            f"`parse(text)` takes at most {_MAX_LENGTH} characters, and this text has {len(text)}."
        )
    return Parser(text, _vocabulary() | _callable(names or {})).value()


@functools.cache
def _vocabulary() -> dict[str, Any]:
    import gradtx  # not at the top of this file, since gradtx imports it

    face = {k: x for k, x in vars(gradtx).items() if not k.startswith("_")}
    # The names of base classes begin with a capital. They have no meaning in a text.
    public = {k: x for k, x in face.items() if k[0].islower() and x is not foreign}
    arrays = {"Array": Called(_jax_array), "array": Called(_numpy_array)}
    called = {k: x for k, x in _callable(public).items() if isinstance(x, Called)}
    dtypes = {name: name for name in _DTYPES.split()}
    return _LITERALS | dtypes | arrays | called


def _callable(names: Mapping[str, Any]) -> dict[str, Any]:
    """`names`, where each class of values, and each function annotated to return one, is `Called`."""

    def makes(x: Any) -> bool:
        made = x.__annotations__.get("return") if inspect.isfunction(x) else x
        return x is polar_express or (isinstance(made, type) and issubclass(made, Value))

    return {name: Called(x) if makes(x) else x for name, x in names.items()}


def _jax_array(values: Any, dtype: Any = None, weak_type: bool = False) -> jax.Array:
    return jnp.asarray(values, dtype)


def _numpy_array(values: Any, dtype: Any = None) -> np.ndarray:
    return np.asarray(values, dtype)

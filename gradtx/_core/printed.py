"""How functions, classes and arrays print inside a value, so that `parse` can read what was printed.

A function prints as its name. If a value holds two different functions of one name, the second of them
prints as `name<2>`, which is not a name. So `parse` refuses such a text, and never takes one function
for the other. The names are given out while the outermost `repr` runs.
"""

import functools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

# The dtypes that an array in a field may have.
_NUMERIC = """bool int2 int4 int8 int16 int32 int64 uint2 uint4 uint8 uint16 uint32 uint64
    bfloat16 float16 float32 float64 complex64 complex128
    float4_e2m1fn float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn float8_e4m3fnuz
    float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"""
DTYPES = frozenset(_NUMERIC.split())
# Words that have a meaning of their own in a text, whatever a function is called.
_WORDS = frozenset({"None", "True", "False", "inf", "nan"}) | DTYPES

# While a value is printed: what has been printed so far, by the text that stands for it.
_PRINTED: ContextVar[dict[str, Any] | None] = ContextVar("_PRINTED", default=None)


class printing:
    """A context in which different functions print differently, although they have the same name.

    Attributes:
        twice: the first function or class that did not get its own name, or None.
    """

    def __enter__(self) -> "printing":
        self.names: dict[str, Any] = {}
        self._token = _PRINTED.set(self.names)
        return self

    def __exit__(self, *args: Any) -> None:
        _PRINTED.reset(self._token)

    @property
    def twice(self) -> str | None:
        return next((text.partition("<")[0] for text in self.names if text.endswith(">")), None)


def outermost(method: F) -> F:
    """The method `__repr__`, which gives out names if no other `__repr__` around it does."""

    @functools.wraps(method)
    def printed(self: Any) -> str:
        if _PRINTED.get() is not None:
            return method(self)
        with printing():
            return method(self)

    return printed  # pyright: ignore[reportReturnType] - to a type checker the signature is the same


def name_of(thing: Any) -> str:
    """The text that stands for a function or a class in the value that is being printed."""
    name, names = thing.__name__, _PRINTED.get()
    if names is None:
        return name
    text, i = name, 1
    while not _free(text, thing, names):
        i += 1
        text = f"{name}<{i}>"
    names[text] = thing
    return text


def _free(text: str, thing: Any, names: dict[str, Any]) -> bool:
    if text in names:
        return names[text] is thing or bool(names[text] == thing)
    # A user's class with the name of one of the library's would be read as the library's.
    library = vars(sys.modules[__name__.partition(".")[0]]).get(text)
    shadows = isinstance(thing, type) and isinstance(library, type) and library is not thing
    return text not in _WORDS and not shadows


def is_named(x: Any) -> bool:
    """Whether `x` is a function, a class, or another callable with a name, such as a jitted function."""
    return callable(x) and isinstance(getattr(x, "__name__", None), str)


def array_text(x: Any) -> str:
    """The text of an array with all its digits, as a call of `array` (NumPy) or `Array` (JAX)."""
    entries = np.asarray(x)
    what = [_nested(entries) if entries.size or entries.shape == (0,) else "[]"]
    if not entries.size and entries.shape != (0,):
        what.append(f"shape={entries.shape}")
    what.append(f"dtype={entries.dtype.name}")
    if getattr(x, "weak_type", False):
        what.append("weak_type=True")
    return f"{'array' if isinstance(x, np.ndarray) else 'Array'}({', '.join(what)})"


def _nested(x: np.ndarray) -> str:
    return f"[{', '.join(map(_nested, x))}]" if x.ndim else _entry(x)


def _entry(x: np.ndarray) -> str:
    if x.dtype == bool:
        return str(bool(x))
    if jnp.issubdtype(x.dtype, jnp.integer):
        return str(int(x))
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        # `a + bj` would lose the sign of a zero and the parts that are not finite.
        return f"complex({_entry(np.real(x))}, {_entry(np.imag(x))})"
    # The shortest digits of a narrow number may round to its neighbor when they are read as float64
    # first. Then it prints with the digits of float64.
    short = str(x[()])
    exact = repr(float(x))
    return _as_float(short if x.dtype.type(float(short)) == x else exact)


def _as_float(digits: str) -> str:
    return f"{digits}.0" if digits.lstrip("-").isdigit() else digits


def array_key(x: Any) -> tuple[Any, ...]:
    """The shape, the dtype and the bytes of an array, where all NaNs count as the same."""
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
        return x.shape, str(x.dtype), np.asarray(jax.random.key_data(x)).tobytes()
    parts = np.ascontiguousarray(x)
    if parts.dtype.kind == "c":
        parts = parts.view(np.real(parts).dtype)
    is_nan = parts != parts
    if is_nan.any():
        parts = np.where(is_nan, np.array(np.nan, parts.dtype), parts)
    return x.shape, str(x.dtype), getattr(x, "weak_type", False), parts.tobytes()

"""Short texts for drawings: values of fields, numbers of bytes, and small curves of characters."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from gradtx._core.static import show, static
from gradtx._core.values import Value, is_default

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST = 40  # characters of a field that is not a number


def brief(value: Any) -> str:
    """The text of a field's value, in which an array with many entries is cut in the middle.

    >>> import numpy as np
    >>> brief(np.logspace(-4, 0, 16)), brief(0.1), brief(np.float32(0.1))
    ('[0.0001 ... 1] (16 values)', '0.1', '0.1')
    """
    if isinstance(value, Tracer | jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    if not isinstance(value, np.ndarray | np.generic | jax.Array):
        return show(value) if not _holds_arrays(value) else _with_brief_arrays(value)
    x = np.asarray(value)
    if x.dtype.kind == "V":  # bfloat16 and the 8-bit floats
        x = x.astype(np.float32)
    if not x.ndim:
        return digits(x)
    flat = x.reshape(-1)
    if flat.size <= 4:
        return f"[{', '.join(map(digits, flat))}]"
    shape = f", shape {'x'.join(map(str, x.shape))}" if x.ndim > 1 else ""
    return f"[{digits(flat[0])} ... {digits(flat[-1])}] ({flat.size} values{shape})"


def digits(x: Any) -> str:
    """A number with up to six digits.

    >>> digits(0.001), digits(1e-8), digits(70.0)
    ('0.001', '1e-08', '70')
    """
    return f"{x:.6g}"


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, Value) and any(
        isinstance(x, np.ndarray | jax.Array) for x in jax.tree.leaves(value)
    )


def _with_brief_arrays(value: Value) -> str:
    """The code of a value, such as a schedule, whose arrays are cut in the middle."""
    text = repr(value)
    for x in jax.tree.leaves(value):
        text = text.replace(show(x), brief(x))
    return text


def cut(text: str, length: int = _LONGEST) -> str:
    """A text that ends in "…" if it is too long."""
    return text if len(text) <= length else text[: length - 1] + "…"


def size_of(count: float) -> str:
    """A number of bytes with a unit, such as "8.0 kB"."""
    return f"{count:.0f} B" if count < 999.95 else _scaled(count, "B")


def count_of(count: float) -> str:
    """A large number with a unit, such as "8.0 M"."""
    return f"{count:.0f} " if count < 999.95 else _scaled(count, "")


def _scaled(count: float, unit: str) -> str:
    size, prefixes = float(count), iter(("", "k", "M", "G", "T", "P"))
    prefix = next(prefixes)
    while size >= 999.95 and prefix != "P":
        size, prefix = size / 1000, next(prefixes)
    return f"{size:.1f} {prefix}{unit}"


def sparkline(values: Any) -> str:
    """Numbers as a row of bars, from the smallest to the largest.

    >>> sparkline([0.0, 1.0, 2.0, 1.0])
    '▁▅█▅'
    """
    x = np.asarray(values, np.float64)
    finite = x[np.isfinite(x)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    unit = np.zeros_like(x) if high == low else (x - low) / (high - low)
    bars = [
        _BARS[round(u * (len(_BARS) - 1))] if np.isfinite(v) else "?"
        for u, v in zip(np.nan_to_num(unit, posinf=0.0, neginf=0.0), x, strict=True)
    ]
    return "".join(bars)


def differs(value: Any, default: Any) -> bool:
    """Whether a field holds something else than its default."""
    return not is_default(value, default)


def is_function(value: Any) -> bool:
    """Whether a field holds a function, which may be a schedule of another library."""
    return callable(value) and (isinstance(value, static) or not isinstance(value, Value))

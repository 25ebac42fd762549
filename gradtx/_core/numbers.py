"""Numbers that an un-jitted loop changes: how they reach a compiled step without losing digits.

A Python number in a transformation is a constant of the compiled step, computed with on the host in
float64. A loop that changes the number at every step would compile every step, so from a certain
number of changes on the step takes the number as an argument. An average needs `1 - b` and `log b`
beside `b`, and float32 has too few digits near 1 to compute them from `b`: they are computed on the
host as well and travel together, as one row of three.
"""

import math
from typing import Any

import jax
import numpy as np

from gradtx._core.dtypes import scalar_dtype


def row(x: float) -> tuple[float, float, float]:
    """`x`, `1 - x` and `log x` (0 where there is none), each computed in float64."""
    return x, 1 - x, math.log1p(-(1 - x)) if x > 0 else 0.0


def rows(numbers: tuple[float, ...]) -> np.ndarray:
    """The rows of several numbers, each entry rounded once."""
    return np.array([row(x) for x in numbers], scalar_dtype()).reshape(len(numbers), 3)


def travels(x: float) -> bool:
    """Whether a number may become an argument: code may ask whether a number is 0 or 1."""
    return x not in (0.0, 1.0) and math.isfinite(x)


class Number:
    """A number between 0 and 1 that knows `1 - x` and `log x` to the last digit.

    It computes like the array `value`. Functions of `jax.numpy` take `jnp.asarray(x)`.
    """

    def __init__(self, value: jax.Array, complement: jax.Array, log: jax.Array) -> None:
        self.value, self.complement, self.log = value, complement, log

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __rsub__(self, other: Any) -> Any:
        is_one = isinstance(other, int | float) and other == 1
        return self.complement if is_one else other - self.value


def _operator(name: str) -> Any:
    return lambda self, *other: getattr(self.value, name)(*other)


_OPERATORS = "add radd sub mul rmul truediv rtruediv pow rpow neg pos abs lt le gt ge eq ne"
for _name in _OPERATORS.split(" "):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__"))

"""How hyperparameters that an un-jitted loop changes enter a compiled step without losing digits.

A Python number in a transformation is a constant of the compiled step, and arithmetic with it, such as
`1 - self.decay`, is done by Python in float64 while the step is traced. A loop that changes the number
at every step would compile every step. So after a few changes the compiled step takes the number as an
argument (`retrace.py` says when). An average with decay `b` also needs `1 - b` and `log b`, and float32
has too few digits near 1 to compute these from `b`. So Python computes all three in float64 and passes
them together, as a triple.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from gradtx._core.dtypes import scalar_dtype


def triple(x: float) -> tuple[float, float, float]:
    """`x`, `1 - x` and `log x`, each computed in float64; the last is 0 if `x` has no logarithm."""
    return x, 1 - x, math.log1p(-(1 - x)) if 1 - x < 1 else 0.0


def triples(numbers: tuple[float, ...]) -> np.ndarray:
    """The triples of several numbers, shape [numbers, 3], each entry rounded once."""
    return np.array([triple(x) for x in numbers], scalar_dtype()).reshape(len(numbers), 3)


def may_be_argument(x: Any) -> bool:
    """Whether `x` is a Python number that may become an argument.

    0, 1 and infinity stay constants, because a transformation may compare with them to omit a term.
    """
    return isinstance(x, float) and x not in (0.0, 1.0) and math.isfinite(x)


class Digits(NamedTuple):
    """The triple of a number whose value lies in the state (`tuned.py`), each entry a scalar array."""

    value: Any
    complement: Any
    log: Any


class Number:
    """A hyperparameter that is an argument of the step, with its triple.

    It computes like the array `value`, except that `1 - x` is the number that was computed in float64.
    To pass it to a function of `jax.numpy`, write `jnp.asarray(x)`.
    """

    def __init__(self, value: jax.Array, complement: jax.Array, log: jax.Array) -> None:
        self.value, self.complement, self.log = value, complement, log

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __getattr__(self, name: str) -> Any:
        if name in ("value", "complement", "log") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.value, name)  # such as `shape`, `dtype` and `astype`

    def __rsub__(self, other: Any) -> Any:
        is_one = isinstance(other, int | float) and other == 1
        return self.complement if is_one else other - self.value


def plain(tree: Any) -> Any:
    """The tree with an array in the place of every `Number`."""
    return jax.tree.map(lambda x: x.value if isinstance(x, Number) else x, tree)


def called(tx: Any, method: str, *args: Any) -> Any:
    """The result of a method of a transformation, some of whose numbers may be `Number`s.

    A method that passes its number to a function of JAX is called again, with an array in its place.
    """
    try:
        return getattr(tx, method)(*args)
    except (TypeError, ValueError):
        if not any(isinstance(x, Number) for x in jax.tree.leaves(tx)):
            raise
    return getattr(plain(tx), method)(*args)


def _operator(name: str) -> Any:
    return lambda self, *other: getattr(self.value, name)(*other)


_OPERATORS = "add radd sub mul rmul truediv rtruediv pow rpow neg pos abs lt le gt ge eq ne"
for _name in _OPERATORS.split(" "):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__"))

"""Distributions of hyperparameters, from which `samples` draws."""

import math

from gradtx._core.values import Fixed, Value


class _Interval(Value):
    low: Fixed
    high: Fixed

    def validate(self) -> None:
        for name in ("low", "high"):
            if not isinstance(getattr(self, name), float):
                raise TypeError(f"`{type(self).__name__}({name}=...)` must be a number.")
        if not self.low < self.high:
            raise ValueError(f"`{type(self).__name__}` needs `low` < `high`, not {self}.")


class uniform(_Interval):
    r"""A hyperparameter whose values have equal probability between two numbers.

    The quantile is $q(u) = a + u (b - a)$.

    Args:
        low: the smallest value $a$.
        high: the largest value $b > a$.

    Raises:
        ValueError: if `low` is not smaller than `high`.
        TypeError: if one of them is not a number.

    >>> import gradtx
    >>> gradtx.uniform(0.9, 1.0).quantile(0.5)
    0.95
    """

    def quantile(self, u: float) -> float:
        """The value below which the share `u` of the probability lies."""
        return self.low + u * (self.high - self.low)


class log_uniform(_Interval):
    r"""A positive hyperparameter whose orders of magnitude have equal probability.

    The quantile is $q(u) = a^{1 - u}\, b^u$. Use it for learning rates and for weight decays.

    Args:
        low: the smallest value $a > 0$.
        high: the largest value $b > a$.

    Raises:
        ValueError: if `low` is not positive, or not smaller than `high`.
        TypeError: if one of them is not a number.

    >>> import gradtx
    >>> gradtx.log_uniform(1e-4, 1.0).quantile(0.5)
    0.01
    """

    limits = {"low": "(0, inf)"}

    def quantile(self, u: float) -> float:
        """The value below which the share `u` of the probability lies."""
        return math.exp((1 - u) * math.log(self.low) + u * math.log(self.high))

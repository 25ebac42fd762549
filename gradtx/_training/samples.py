"""A batch of optimizers with random values of their hyperparameters."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradtx._core.authors import described
from gradtx._core.values import Value
from gradtx._training.batch import Candidates, given_values, listed


class samples(Candidates):
    """Random values of hyperparameters, as a sequence of optimizers for `sweep`.

    Each distribution is divided into as many parts of equal probability as there are optimizers, and one
    value is drawn from each part (Latin hypercube sampling). So the values of every single
    hyperparameter are spread evenly, and their combinations are random. A number is rounded to four
    significant digits.

    Args:
        tx: an optimizer, or a class or a function that makes one, as for `grid`.
        n: how many optimizers to make.
        values: a mapping from names to distributions, for names that are not words of Python.
        seed: the seed of the random numbers. The same seed gives the same optimizers.
        named: the distribution of each hyperparameter: `uniform`, `log_uniform`, any object with a
            method `quantile`, or a list or an array whose entries have equal probability.

    Raises:
        ValueError: if `n` is not positive, if there are no hyperparameters, if the optimizer has no
            field of a name, or if a value lies outside its interval.
        TypeError: if `tx` cannot make optimizers, or if something is not a distribution.

    Source: McKay, Beckman & Conover, 1979, "A comparison of three methods for selecting values of input
    variables in the analysis of output from a computer code".

    >>> import gradtx
    >>> txs = gradtx.samples(
    ...     gradtx.adamw, 3, learning_rate=gradtx.log_uniform(1e-4, 1e-1), b2=[0.95, 0.999]
    ... )
    >>> len(txs), txs[0] == txs[0]
    (3, True)
    """

    n: int
    seed: int = 0

    def __init__(
        self,
        tx: Value | Callable[..., Any],
        n: int,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        seed: int = 0,
        **named: Any,
    ) -> None:
        swept = given_values(self, values, named)
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"`samples(n={described(n)})` must be a positive integer.")
        pairs = tuple((name, _distribution(self, name, given)) for name, given in swept.items())
        if not isinstance(seed, int | np.integer):
            raise TypeError(f"`samples(seed=...)` must be a whole number, not {described(seed)}.")
        for name, value in {"tx": tx, "n": int(n), "seed": int(seed), "swept": pairs}.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @property
    def settings(self) -> tuple[dict[str, Any], ...]:
        """For each optimizer, the values of the hyperparameters that are swept."""
        # Python guarantees that `Random.random` gives the same numbers in every version.
        draw = random.Random(self.seed).random
        names, columns = [], []
        for name, distribution in self.swept:
            parts = sorted(range(self.n), key=lambda _: draw())
            names.append(name)
            columns.append([_drawn(distribution, (part + draw()) / self.n) for part in parts])
        return tuple(dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))

    def __repr__(self) -> str:
        return self._code(str(self.n), *([f"seed={self.seed}"] if self.seed else []))


def _distribution(batch: Any, name: str, given: Any) -> Any:
    """A distribution: an object with a method `quantile`, or values of equal probability."""
    return given if hasattr(given, "quantile") else listed(batch, name, given)


def _drawn(distribution: Any, u: float) -> Any:
    """The value of a distribution at the probability `u`, in [0, 1)."""
    if isinstance(distribution, tuple):
        return distribution[int(u * len(distribution))]
    x = distribution.quantile(u)
    return float(f"{x:.4g}") if isinstance(x, float) else x

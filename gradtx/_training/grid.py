"""A batch of optimizers with all combinations of some values of their hyperparameters."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from gradtx._core.values import Value
from gradtx._training.batch import Candidates, given_values, listed


class grid(Candidates):
    """All combinations of some values of hyperparameters, as a sequence of optimizers for `sweep`.

    The value of the last hyperparameter changes first.

    Args:
        tx: an optimizer, or a class or a function that makes one. In an optimizer, the fields with
            these names get new values at any depth, as in `replace`. A class or a function is called
            with the values as keyword arguments.
        values: a mapping from names to values, for names that are not words of Python. In it, a dotted
            name restricts the change to a part of the optimizer, such as
            `{"learning_rate.peak_value": [0.1, 0.2]}` for a field of a schedule.
        named: the values of each hyperparameter, which are a list or an array with one axis. Flags,
            words and whole transformations can be values, too.

    Raises:
        ValueError: if a hyperparameter has no values, if there are no hyperparameters, if the optimizer
            has no field of a name, or if a value lies outside its interval.
        TypeError: if `tx` cannot make optimizers, or if the values are not a list or an array.

    >>> import gradtx
    >>> txs = gradtx.grid(gradtx.adamw, learning_rate=[1e-4, 1e-3], b2=[0.95, 0.999])
    >>> list(txs)
    [adamw(0.0001, b2=0.95), adamw(0.0001), adamw(0.001, b2=0.95), adamw(0.001)]
    """

    def __init__(
        self,
        tx: Value | Callable[..., Any],
        values: Mapping[str, Any] | None = None,
        /,
        **named: Any,
    ) -> None:
        swept = given_values(self, values, named)
        pairs = tuple((name, listed(self, name, given)) for name, given in swept.items())
        object.__setattr__(self, "swept", pairs)
        object.__setattr__(self, "tx", tx)
        self.__post_init__()

    @property
    def settings(self) -> tuple[dict[str, Any], ...]:
        """For each optimizer, the values of the hyperparameters that are swept."""
        names, values = zip(*self.swept, strict=True)
        return tuple(dict(zip(names, xs, strict=True)) for xs in itertools.product(*values))

    def __repr__(self) -> str:
        return self._code()

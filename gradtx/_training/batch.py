"""The base class of batches of optimizers, and what their constructors have in common."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.authors import described
from gradtx._core.fields import convert_static
from gradtx._core.static import show, static
from gradtx._core.values import Value
from gradtx._training.edit import replace


class Candidates(Value):
    """The common part of `grid` and `samples`: a sequence of optimizers.

    A subclass provides `settings`. Its field `tx` is an optimizer or a function that makes one. Its
    field `swept` has a pair for each hyperparameter: the name, and a list or a distribution. These are
    pairs and not a mapping, because batches whose optimizers come in another order are not equal.
    """

    tx: Value | Callable[..., Any]
    swept: tuple[Any, ...]

    def validate(self) -> None:
        for (
            _
        ) in self:  # makes every optimizer, so that an error is raised here and not in the sweep
            pass

    @property
    def settings(self) -> tuple[dict[str, Any], ...]:
        """For each optimizer, the values of the hyperparameters that are swept."""
        raise TypeError(f"`{type(self).__name__}` does not define `settings`.")

    def __len__(self) -> int:
        return len(self.settings)

    def __iter__(self) -> Iterator[Any]:
        return (made(self.tx, setting) for setting in self.settings)

    def __getitem__(self, index: int) -> Any:
        return made(self.tx, self.settings[index])

    def _code(self, *options: str) -> str:
        """The call that makes this batch, with these arguments after `tx`."""
        count, keywords = options[:1], options[1:]
        if all(name.isidentifier() for name, _ in self.swept):
            keywords += tuple(f"{name}={show(value)}" for name, value in self.swept)
        else:
            count += (show(dict(self.swept)),)
        return f"{type(self).__name__}({', '.join([show(self.tx), *count, *keywords])})"


def given_values(batch: Any, values: Any, named: dict[str, Any]) -> dict[str, Any]:
    """What was given for each hyperparameter, by position and by keyword."""
    kind = type(batch).__name__
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(
            f"`{kind}` takes a mapping from names to values by position, or each hyperparameter by its "
            f"name: write `{kind}(..., learning_rate=...)`. It got {described(values)}."
        )
    if not (values or named):
        raise ValueError(
            f"`{kind}` needs at least one hyperparameter: write `{kind}(..., learning_rate=...)`."
        )
    return {**(values or {}), **named}


def listed(batch: Any, name: str, given: Any) -> tuple[Any, ...]:
    """The values of a hyperparameter, as a field keeps them."""
    is_list = isinstance(given, np.ndarray | jax.Array) or (
        isinstance(given, Iterable) and not isinstance(given, str | Mapping | Value)
    )
    if not is_list or getattr(given, "ndim", 1) != 1:
        raise TypeError(
            f"`{type(batch).__name__}({name}=...)` must be a list or an array with one axis, not "
            f"{described(given)}."
        )
    values = tuple(convert_static(plain(x), batch, name.split(".")[-1]) for x in given)
    if not values:
        raise ValueError(f"`{type(batch).__name__}({name}=...)` needs at least one value.")
    return values


def plain(x: Any) -> Any:
    """A Python number for an entry of an array, in the shortest decimal form of the entry."""
    if isinstance(x, jax.Array | np.generic) and np.ndim(x) == 0:
        return float(str(np.asarray(x))) if jnp.issubdtype(x.dtype, jnp.floating) else x.item()
    return x


def made(tx: Any, setting: dict[str, Any]) -> Any:
    """One optimizer of a batch."""
    if isinstance(tx, static):
        tx = tx.value
    if not isinstance(tx, Value) and callable(tx):
        return tx(**setting)
    return replace(tx, **setting)

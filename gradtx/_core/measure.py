"""`Measure`, the base class of what a tap records: sums over entries, and a scalar made from them."""

import dataclasses
import re
from typing import Any, ClassVar, Literal

import jax

from gradtx._core.authors import described
from gradtx._core.values import Value


class Measure(Value):
    r"""A number that a `tap` records of the updates that pass through it.

    A measure is made of sums over the entries of arrays, $f(\sum_i a_i, \sum_i b_i, \dots)$. Subclasses
    provide `entries`, which returns the summands $a, b, \dots$ of one array, and `value`, which returns
    $f$ of the sums. The library adds up the entries of all arrays, of one layer, or of one array, as
    `per` says, and over the shards of arrays if the tap has an `axis_name`. All sums of all measures are
    computed together, where the updates are computed.

    Args:
        per: what one reading covers. "tree" means all arrays together, "leaf" means each array, and
            "layer" means the arrays of one layer. The layer of an array is the part of its path that
            ends with the first component that has a digit, such as `blocks/0` of
            `blocks/0/attention/kernel`, or the path without its last component if none has a digit. A
            number $n$ means the arrays whose paths agree in their first $n$ components.

    Raises:
        ValueError: if `per` is something else.

    >>> import gradtx, jax.numpy as jnp
    >>> class mean_size(gradtx.Measure):
    ...     def entries(self, update, param, gradient):
    ...         return jnp.abs(update), jnp.ones_like(update)
    ...
    ...     def value(self, total, count):
    ...         return total / count
    >>> tx = gradtx.tap("grads", mean_size(per="leaf"))
    >>> g = {"a": jnp.array([1.0, -3.0]), "b": jnp.array([4.0])}
    >>> _, state = tx.update(g, tx.init(g))
    >>> {name: float(x) for name, x in gradtx.readings(state).items()}
    {'grads/mean_size/a': 2.0, 'grads/mean_size/b': 4.0}
    """

    per: Literal["tree", "layer", "leaf"] | int = dataclasses.field(default="tree", kw_only=True)

    # The names of the arguments of `update` that `step` gets in `extra`.
    extra_args: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        per = self.per
        depth = isinstance(per, int) and not isinstance(per, bool) and per >= 1
        if not depth and not (isinstance(per, str) and per in ("tree", "layer", "leaf")):
            raise ValueError(
                f"`{type(self).__name__}(per=...)` must be 'tree', 'layer', 'leaf' or a number of "
                f"components of the path from 1 on, not {described(per)}."
            )
        super().__post_init__()

    def entries(
        self, update: jax.Array, param: Any, gradient: jax.Array
    ) -> jax.Array | tuple[jax.Array, ...]:
        """The summands of one array: arrays of its shape, or scalars that were summed already.

        Arrays are float32 at least. Derivatives do not pass through.

        Args:
            update: the update of the array at the place of the tap.
            param: the parameter; if it was not passed, any use of it raises `ValueError`.
            gradient: the gradient of the array that `update` of the whole optimizer was given.
        """
        raise TypeError(
            f"`{type(self).__name__}` does not define `entries`. A subclass of `Measure` provides "
            "`entries(update, param, gradient)`, which returns the arrays whose entries are summed."
        )

    def value(self, *sums: jax.Array) -> jax.Array:
        """The reading, a scalar.

        The default returns the only sum.

        Args:
            sums: the sums of what `entries` returned.
        """
        (only,) = sums
        return only

    def initial(self) -> tuple[float, ...]:
        """What the measure remembers from one step to the next, before the first step: numbers.

        The default remembers nothing. A subclass that overrides it also overrides `step`.
        """
        return ()

    def step(
        self, sums: tuple[jax.Array, ...], memory: tuple[jax.Array, ...], extra: dict[str, Any]
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """The reading, and what to remember until the next step.

        The default calls `value` and remembers nothing.

        Args:
            sums: the sums of what `entries` returned.
            memory: what `initial`, or `step` in the step before, returned.
            extra: the keyword arguments of `update` that `extra_args` of the class lists.
        """
        return self.value(*sums), memory

    def at_leaf(self, path: str, leaf: Any) -> "Measure | None":
        """The measure for one array, or None if it does not apply.

        The default returns `self`.

        Args:
            path: the path of the array, such as `layers/0/kernel`.
            leaf: an object with the shape and the dtype of the parameter.
        """
        return self

    @property
    def label(self) -> str:
        """The name of its readings behind the name of the tap. The default is the name of the class."""
        return type(self).__name__

    def group(self, path: str) -> str:
        """The part of a path that names the reading of an array; empty for all arrays together."""
        parts = path.split("/")
        match self.per:
            case "tree":
                return ""
            case "leaf":
                return path
            case "layer":
                numbered = (i for i, part in enumerate(parts) if re.search(r"\d", part))
                return "/".join(parts[: next(numbered, len(parts) - 2) + 1]) or path
            case depth:
                return "/".join(parts[: int(depth)])

"""Transformations of one unit of work: `Elementwise`, for one array at a time.

An author writes a state for each array, an update of one array, and, once per step, what all arrays
share. The library maps the update over the leaves, together with its neighbours.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import optax

from gradtx._core.authors import Missing, not_a_pair, not_for_a_leaf, speak, undefined
from gradtx._core.layout import INNER
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Value


class Unit(Transform):
    """What `Elementwise` and `Matrixwise` share: the work that is done once per step."""

    _hooks = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.measures = cls.measure is not Unit.measure
        cls.begins = cls.begin is not Unit.begin

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        """What has to be known of the whole tree before any unit is updated, such as a norm.

        Args:
            updates: the tree of updates, None where there is nothing to do.
            params: the tree of parameters; where it is used and was not passed, it raises an error.
            extra: the keyword arguments of `update`.
        """
        return None

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        """The work that all units share, once per step: the new shared scalars, and what units are told.

        Args:
            state: the state with its shared scalars, and None where units have arrays.
            measured: what `measure` returned.

        Returns:
            The state with the new shared scalars, and a number (or a tuple of numbers) that
            `update_leaf` gets as its last argument.
        """
        return state, measured

    @property
    def bare(self) -> "Unit":
        """The transformation without what its leaves do not need: schedules, and what it is around."""
        scheduled = self.scheduled
        if not scheduled and not self.wraps:
            return self
        return self._with(**dict.fromkeys((*scheduled, "inner") if self.wraps else scheduled))

    def with_values(self, values: dict[str, Any]) -> Any:
        """The transformation with these values of its schedules."""
        return self._with(**values)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        return self.lower_unit(low, (stream if self.linear else low.bounded(stream),), None)

    def lower_unit(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any
    ) -> tuple[Stream, Any]:
        """The stream of this unit alone, and its state around `inner`."""
        return low.unit(self, streams, inner)


class Elementwise(Unit):
    """A transformation of one array at a time.

    Subclasses provide `update_leaf(update, state, param) -> (update, state)`, what happens to one
    gradient array, and may provide

    - `init_leaf(param) -> state`: the state of one array, a NamedTuple of arrays; `gradtx.shared(0)`
      stands in it for a scalar that all arrays share;
    - `begin(state, measured) -> (state, told)`: once per step, the next shared scalars, and a number
      for all arrays, which `update_leaf` gets as its last argument;
    - `measure(updates, params, extra) -> measured`: what `begin` (or, without one, `update_leaf`) has
      to know of the whole tree, such as a norm;
    - `at_leaf(path, leaf)`: the transformation for one leaf, decided from its name and shape.

    Everything is float32 at least there, and schedules are resolved: a hyperparameter is a number or a
    scalar. Gradients come bounded to what can be squared, unless the class declares `linear = True`,
    which says that it is right for gradients of any size. `param` raises an error where it is used and
    was not passed.

    >>> import gradtx, jax.numpy as jnp
    >>> class power(gradtx.Elementwise):
    ...     exponent: gradtx.Hyper = 0.5
    ...
    ...     def update_leaf(self, update, state, param):
    ...         return jnp.sign(update) * jnp.abs(update) ** self.exponent, state
    >>> power().update(jnp.array([4.0, -9.0]), ())[0]
    Array([ 2., -3.], dtype=float32)
    """

    _hooks = ("init_leaf", "update_leaf", "at_leaf", "measure", "begin")
    linear = False

    if TYPE_CHECKING:  # how many arguments they take depends on what else the class defines
        init_leaf: ClassVar[Callable[..., Any]]
        update_leaf: ClassVar[Callable[..., Any]]
    else:

        def init_leaf(self, param: Any) -> Any:
            """The state of one array: a NamedTuple (or tuple) of arrays. The default has none."""
            return optax.EmptyState()

        def update_leaf(self, update: jax.Array, state: Any, param: Any, *more: Any) -> Any:
            """What happens to one array: the new update and the new state of this array."""
            raise undefined(self, "Elementwise", "update_leaf")

    def at_leaf(self, path: str, leaf: Any) -> "Elementwise":
        """The transformation for the leaf of this name and shape, with the same state."""
        return self

    def init_unit(self, param: Any) -> Any:
        """The state of one array, as the library asks for it."""
        return self.init_leaf(param, INNER) if self.wraps else self.init_leaf(param)  # pyright: ignore

    def apply_leaf(self, args: list[jax.Array], state: Any, param: Any, told: Any) -> Any:
        """`update_leaf` as the library calls it: with what was told, and parameters that speak."""
        param = Missing(self) if param is None else param
        told = (told,) if self.begins or self.measures else ()
        try:
            result = self.update_leaf(args[0], state, param, *args[1:], *told)
        except (TypeError, ValueError) as error:
            speak(error, param, state)
            raise
        if not isinstance(result, tuple) or len(result) != 2:
            raise not_a_pair(self, result, "return update, state")
        return result

    def lower_unit(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any
    ) -> tuple[Stream, Any]:
        variants = None
        if type(self).at_leaf is not Elementwise.at_leaf:
            variants = []
            for path, leaf, term in zip(low.paths, low.leaves, streams[0], strict=True):
                tx = None if term is None else self.at_leaf(path, leaf)
                if term is not None and not isinstance(tx, Elementwise):
                    raise not_for_a_leaf(self, tx, path)
                variants.append(None if term is None else low.same(tx))
        return low.unit(self, streams, inner, variants)


def refuse_schedule(tx: Value, *names: str) -> None:
    """Raise `TypeError` if one of these hyperparameters, which are needed before the first step, is
    a schedule."""
    for name in names:
        if callable(getattr(tx, name)):
            raise TypeError(f"`{type(tx).__name__}({name}=...)` cannot be a schedule.")

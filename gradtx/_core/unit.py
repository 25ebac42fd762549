"""`Elementwise`, the base class of transformations that update one array at a time.

An author writes the state of one array, the update of one array and, if needed, what is computed once
per step for all arrays. The library maps the update over the leaves of the tree, together with the
elementwise transformations before and after it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import optax

from gradtx._core.authors import (
    Missing,
    not_a_pair,
    not_for_a_leaf,
    raise_for_placeholder,
    undefined,
)
from gradtx._core.layout import INNER
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Value


class Unit(Transform):
    """What `Elementwise` and `Matrixwise` have in common: `measure` and `begin`, once per step.

    A unit is what one call of an author's method updates: one array, or the matrices of one array.
    """

    _hooks: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.measures = cls.measure is not Unit.measure
        # A class may define `begins` itself, as a property that depends on its fields.
        cls.begins = vars(cls).get("begins", cls.begin is not Unit.begin)

    def measure(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        """What the update of every leaf needs to know about the whole tree, such as its norm.

        It is called once per step, before any leaf is updated. The default returns None.

        Args:
            updates: the tree of updates, with None in place of every leaf that is not updated.
            params: the tree of parameters in the same form. If the caller did not pass them, any use
                of them raises `ValueError`.
            extra: the further keyword arguments that the caller passed to `update`.
        """
        return None

    def begin(self, state: Any, measured: Any) -> tuple[Any, Any]:
        """Advance the scalars that all leaves share, and compute the values that every leaf gets.

        It is called once per step, after `measure`. The default returns both arguments unchanged.

        Args:
            state: the state with its shared scalars, and None in place of the arrays of each leaf.
            measured: what `measure` returned.

        Returns:
            The state with the new shared scalars, and a number, an array or a tuple of these, which
            the update of every leaf gets as its last argument.
        """
        return state, measured

    def first_state(self, state: Any) -> Any:
        """The state with the shared scalars that depend on the hyperparameters before the first step.

        The default returns the state unchanged, with the scalars that `init_leaf` declares.

        Args:
            state: the state with its shared scalars, and None in place of the arrays of each leaf.
        """
        return state

    @property
    def bare(self) -> "Unit":
        """A copy with None in place of the schedules and `inner`, which the update does not need.

        Units that differ in nothing else then share a compiled function.
        """
        scheduled = self.scheduled
        if not scheduled and not self.wraps:
            return self
        return self._with(**dict.fromkeys((*scheduled, "inner") if self.wraps else scheduled))

    def with_values(self, values: dict[str, Any]) -> Any:
        """The transformation with its schedules replaced by `values`, a mapping from field names."""
        return self._with(**values)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        return self.lower_unit(low, (stream if self.linear else low.bounded(stream),), None)

    def lower_unit(
        self, low: Lowering, streams: tuple[Stream, ...], inner: Any
    ) -> tuple[Stream, Any]:
        """The stream after this transformation, and its state.

        Args:
            low: the lowering in progress.
            streams: the incoming stream; for a wrapper, what `inner` returned and what it was given.
            inner: the state of the inner transformation, for a wrapper.
        """
        return low.unit(self, streams, inner)


class Elementwise(Unit):
    """A transformation of one array at a time.

    Subclasses provide `update_leaf(update, state, param) -> (update, state)`, the update of one array.
    They may also provide

    - `init_leaf(param) -> state`: the state of one array before the first step, a NamedTuple of arrays.
      In it, `gradtx.shared(0)` stands for a scalar that all arrays share.
    - `measure(updates, params, extra) -> measured`: once per step, what has to be known about the whole
      tree, such as a norm.
    - `begin(state, measured) -> (state, values)`: once per step, the new shared scalars, and the values
      that `update_leaf` gets as its last argument. Without `begin`, this argument is `measured`; without
      `measure` as well, there is no such argument.
    - `at_leaf(path, leaf)`: the transformation for one leaf, decided from its path and its shape.

    In these methods arrays are float32 at least, and a hyperparameter that is a schedule is the number
    of this step. Entries of gradients that are too large to be squared are clipped; an infinite entry
    still shows in the update. A class that never squares a gradient declares `linear = True`, and its
    gradients are not clipped. If the caller did not pass the parameters, any use of `param` raises
    `ValueError`.

    >>> import gradtx, jax.numpy as jnp
    >>> class power(gradtx.Elementwise):
    ...     exponent: gradtx.Hyper = 0.5
    ...
    ...     def update_leaf(self, update, state, param):
    ...         return jnp.sign(update) * jnp.abs(update) ** self.exponent, state
    >>> power().update(jnp.array([4.0, -9.0]), ())[0]
    Array([ 2., -3.], dtype=float32)
    """

    _hooks: ClassVar[tuple[str, ...]] = ("init_leaf", "update_leaf", "at_leaf", "measure", "begin")
    linear = False

    if TYPE_CHECKING:  # the number of their arguments depends on what else the class defines
        init_leaf: ClassVar[Callable[..., Any]]
        update_leaf: ClassVar[Callable[..., Any]]
    else:

        def init_leaf(self, param: Any) -> Any:
            """The state of one array before the first step: a NamedTuple or tuple of arrays.

            The default returns the empty state `optax.EmptyState()`.

            Args:
                param: the parameter, or a `jax.ShapeDtypeStruct` if `init` was called with shapes.
            """
            return optax.EmptyState()

        def update_leaf(self, update: jax.Array, state: Any, param: Any, *more: Any) -> Any:
            """The new update of one array, and the new state of this array.

            Args:
                update: the gradient of the array, as the transformations before this one left it.
                state: the state of this array.
                param: the parameter; if it was not passed, any use of it raises `ValueError`.
                more: in a wrapper first `given`, the gradient that `inner` was given; if the class
                    defines `begin` or `measure`, then the values that they hand to every leaf.
            """
            raise undefined(self, "Elementwise", "update_leaf")

    def at_leaf(self, path: str, leaf: Any) -> "Elementwise":
        """The `Elementwise` transformation for one leaf; its state must have the same structure.

        It is called once, before the first step. The default returns `self` for every leaf.

        Args:
            path: the path of the leaf, such as `layers/0/kernel`.
            leaf: an object with the shape and the dtype of the parameter.
        """
        return self

    def init_unit(self, param: Any) -> Any:
        """The state of one array before the first step, also for a wrapper."""
        return self.init_leaf(param, INNER) if self.wraps else self.init_leaf(param)  # pyright: ignore

    def apply_leaf(self, args: list[jax.Array], state: Any, param: Any, from_begin: Any) -> Any:
        """Call `update_leaf` with the arguments that this class takes.

        Args:
            args: the update; for a wrapper also the gradient that `inner` was given.
            state: the state of this array.
            param: the parameter, or None if it was not passed.
            from_begin: the values that `begin` hands to every leaf.
        """
        param = Missing(self) if param is None else param
        last = (from_begin,) if self.begins or self.measures else ()
        try:
            result = self.update_leaf(args[0], state, param, *args[1:], *last)
        except (TypeError, ValueError) as error:
            raise_for_placeholder(error, param, state)
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
                variants.append(None if term is None else low.interned(tx))
        return low.unit(self, streams, inner, variants)


def refuse_schedule(tx: Value, *names: str) -> None:
    """Refuse a schedule in these hyperparameters, whose values are needed before the first step.

    Raises:
        TypeError: if one of them is a schedule.
    """
    for name in names:
        if callable(getattr(tx, name)):
            raise TypeError(f"`{type(tx).__name__}({name}=...)` cannot be a schedule.")

"""`Elementwise`: transformations written for one array, and the one place that maps them over a tree.

A step has two parts. What all leaves share (a count, a schedule's value, a correction factor, a norm)
is computed once, by `look` and `advance`, and the result is *another transformation*, the one that
acts at this step: a schedule becomes its value, `scale_by_learning_rate` a multiplication, clipping a
factor. What happens to one array is its `update_leaf`. Compositions of elementwise transformations
compose these functions, so a whole AdamW is one function of (gradient, state, parameter), traced once
for each (structure, shape, dtype) and called for every leaf.

Of a composition's state, some scalars are shared and the rest belongs to leaves. Both are views of
one NamedTuple: `init_shared` has `None` where leaves have arrays, `init_leaf` has `None` where the
shared scalars stand. To the outside the state is field-major: `mu` is a tree like the parameters.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import scalar
from gradtx._core.leafwise import init_elementwise, update_elementwise
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.values import Part, Value


class Elementwise(Transform):
    """A transformation of one array at a time.

    Write the class with its fields, `init_leaf` (the state of one array) and `update_leaf` (what
    happens to one gradient array); everything is at least float32 there, hyperparameters are numbers
    or scalars of the right dtype, schedules are resolved.

    >>> import gradtx, jax.numpy as jnp
    >>> class power(gradtx.Elementwise):
    ...     exponent: gradtx.Hyper = 0.5
    ...
    ...     def update_leaf(self, update, state, param):
    ...         return jnp.sign(update) * jnp.abs(update) ** self.exponent, state
    >>> power().update(jnp.array([4.0, -9.0]), ())[0]
    Array([ 2., -3.], dtype=float32)
    """

    elementwise: ClassVar[bool] = True

    def init_leaf(self, param: Any) -> Any:
        """The state of one array: a NamedTuple (or tuple) of arrays. The default has none."""
        return ()

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        """What happens to one array: the new update and the new state of this array."""
        raise TypeError(f"`{type(self).__name__}` defines no `update_leaf`.")

    def init_shared(self) -> Any:
        """The part of the state that all leaves share: NumPy scalars, None where leaves have arrays."""
        return None

    def look(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        """What has to be known of the whole tree before any leaf is updated (with `looks = True`)."""
        return None

    def advance(self, shared: Any, look: Any) -> tuple[Any, "Elementwise"]:
        """The next shared state, and the transformation that acts at this step."""
        return shared, self

    def marks(self, params: PyTree) -> list[Any] | None:
        """For every leaf something that hashes and picks its variant in `marked`; None: all alike."""
        return None

    def marked(self, mark: Any) -> "Elementwise":
        """The transformation for the leaves of this mark, with the same state."""
        return self

    def init_tree(self, params: PyTree) -> Any:
        return init_elementwise(self.working(), params)

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        return update_elementwise(self.working(), updates, state, params, extra)


def at_step(schedule: Any, count: Any) -> Any:
    """The value of a hyperparameter at step `count` (0 at the first): numbers and arrays are constant.

    Schedules may come from anywhere, so they run under standard dtype promotion.
    """
    if not callable(schedule):
        return schedule
    with jax.numpy_dtype_promotion("standard"):
        value: Any = schedule(count)
        return scalar(value)


def scheduled_fields(tx: Value) -> list[str]:
    """The hyperparameters of `tx` that are schedules."""
    values = {name: getattr(tx, name) for name in tx._data}
    return [n for n, v in values.items() if callable(v) and not isinstance(v, Transform)]


def refuse_schedule(tx: Value, *names: str) -> None:
    """Raise `TypeError` if one of these hyperparameters, which are needed before the first step, is
    a schedule."""
    for name in names:
        if callable(getattr(tx, name)):
            raise TypeError(f"`{type(tx).__name__}({name}=...)` cannot be a schedule.")


def resolved(tx: Any, count: Any) -> Any:
    """`tx` with every schedule among its own fields replaced by its value at `count`."""
    return tx._with(**{name: at_step(getattr(tx, name), count) for name in scheduled_fields(tx)})


def next_count(count: Any) -> jax.Array:
    """The count after this step, which stays at its largest value rather than wrap around."""
    return jnp.where(count < jnp.iinfo(jnp.int32).max, count + np.int32(1), count)


class Wrapper(Elementwise):
    """An elementwise transformation around one other, with the other's state unless it says so."""

    inner: Part

    @property
    def elementwise(self) -> bool:  # pyright: ignore
        return self.inner.elementwise

    @property
    def looks(self) -> bool:  # pyright: ignore
        return self.inner.looks

    @property
    def squares(self) -> bool:  # pyright: ignore
        return self.inner.squares

    @property
    def needs_params(self) -> bool:  # pyright: ignore
        return self.inner.needs_params

    def validate(self) -> None:
        if not isinstance(self.inner, Transform) or not self.inner.working().elementwise:
            raise TypeError(
                f"`{type(self).__name__}(inner=...)` works on one array at a time, so `inner` must be "
                f"an elementwise transformation, not {self.inner!r}."
            )

    def init_shared(self) -> Any:
        return self.inner.init_shared()

    def look(self, updates: PyTree, params: PyTree, extra: dict[str, Any]) -> Any:
        return self.inner.look(updates, params, extra)

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        shared, acting = self.inner.advance(shared, look)
        return shared, self._with(inner=acting)

    def marks(self, params: PyTree) -> list[Any] | None:
        return self.inner.marks(params)

    def marked(self, mark: Any) -> Elementwise:
        return self._with(inner=self.inner.marked(mark))

    def init_leaf(self, param: Any) -> Any:
        return self.inner.init_leaf(param)

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return self.inner.update_leaf(update, state, param)


class ScheduledState(NamedTuple):
    """The count that the schedules see (0 at the first step), and the state of what they steer."""

    count: Any
    inner: Any


class scheduled(Wrapper):
    """A transformation some of whose hyperparameters are schedules, of one array or of whole trees.

    Made by the library around any transformation that is given a schedule.
    """

    def validate(self) -> None:
        """Nothing: `inner` is not asked for its working form, which would be this wrapper again."""

    def working(self) -> Any:
        return self

    def init_shared(self) -> Any:
        return ScheduledState(np.int32(0), self.inner.init_shared())

    def advance(self, shared: Any, look: Any) -> tuple[Any, Elementwise]:
        inner, acting = resolved(self.inner, shared.count).advance(shared.inner, look)
        return ScheduledState(next_count(shared.count), inner), self._with(inner=acting)

    def init_leaf(self, param: Any) -> Any:
        return ScheduledState(None, self.inner.init_leaf(param))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        update, inner = self.inner.update_leaf(update, state.inner, param)
        return update, ScheduledState(None, inner)

    def init_tree(self, params: PyTree) -> Any:
        if self.elementwise:
            return super().init_tree(params)
        return ScheduledState(jnp.int32(0), self.inner.init_tree(params))

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        if self.elementwise:
            return super().update_tree(updates, state, params, extra)
        acting = resolved(self.inner, state.count)
        updates, inner = acting.update_tree(updates, state.inner, params, extra)
        return updates, ScheduledState(next_count(state.count), inner)

"""`Wrapper`, the base class of transformations around another transformation."""

import functools
from typing import TYPE_CHECKING, Any, ClassVar

from gradtx._compose.iterates import check_around
from gradtx._core.foreign import AsTransform
from gradtx._core.latex import Page, Tex
from gradtx._core.lowering import Lowering
from gradtx._core.schedule import ScheduledState
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.unit import Unit


class Wrapper(Transform):
    """A transformation around another transformation, `inner`.

    Args:
        inner: a transformation of gradtx or of Optax.

    There are two ways to write a wrapper.

    *To change the updates that `inner` returns*, derive from `Wrapper` and `Elementwise` (or
    `Matrixwise`), and provide `update_leaf(update, state, param, given)`. `given` is the gradient that
    `inner` was given, and `update` is the update that `inner` returned. By default the state is the
    state of `inner`. To add to it, provide `init_leaf(param, inner)`, and put `inner` where the state
    of the inner transformation belongs.

    *To decide when or how `inner` is called*, derive from `Wrapper` alone, and provide
    `update_tree(updates, state, params, extra)`, which may call `self.inner.update_tree(...)`. By
    default the state is the state of `inner`. To add to it, provide `init_tree(params)`, which calls
    `self.inner.init_tree(params)`.

    A wrapper that returns the updates of `inner` unchanged declares `keeps_updates = True`. A state of
    its own keeps the state of `inner` in a field named `inner`. Then `gradtx.eval_params` finds an
    average inside the wrapper.

    Entries of gradients that are too large to be squared are clipped. A class that never squares a
    gradient declares `linear = True`, and its gradients are not clipped.

    Raises:
        TypeError: if `inner` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> class absolute(gradtx.Wrapper, gradtx.Elementwise):
    ...     def update_leaf(self, update, state, param, given):
    ...         return jnp.abs(update), state
    >>> absolute(gradtx.scale(2.0)).update(jnp.array([1.0, -3.0]), ())[0]
    Array([2., 6.], dtype=float32)
    """

    inner: AsTransform

    _hooks: ClassVar[tuple[str, ...]] = ("init_tree", "update_tree")
    wraps = True

    linear = False

    if not TYPE_CHECKING:

        def init_leaf(self, param: Any, inner: Any) -> Any:
            """The state of one array; `inner` stands for the inner transformation's state."""
            return inner

        def init_matrix(self, x: Any, inner: Any) -> Any:
            """The state of matrices; `inner` stands for the inner transformation's state."""
            return inner

    def init_tree(self, params: PyTree) -> Any:
        """The state before the first step; by default the state of `inner`.

        Args:
            params: the tree of parameters, with None in place of every leaf that is not optimized.
        """
        return self.inner.init_tree(params) if self._calls else super().init_tree(params)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if self._calls:  # `inner`, in `update_tree`
            return low.whole(self, stream)
        if not isinstance(self, Unit):
            raise TypeError(
                f"`{type(self).__name__}` does not define `update_tree`. A subclass of `Wrapper` alone "
                "provides `update_tree(updates, state, params, extra)`; a subclass of `Wrapper` and "
                "`Elementwise` provides `update_leaf(update, state, param, given)`."
            )
        check_around(self, self.inner)
        stream = low.compute(stream) if self.traits.whole else stream
        made, state = low.lower(self.inner, stream)
        given = stream if self.linear else low.bounded(stream)
        return self.lower_unit(low, (made, given), state)

    if TYPE_CHECKING:

        def lower_unit(
            self, low: Lowering, streams: tuple[Stream, ...], inner: Any
        ) -> tuple[Stream, Any]: ...  # `Elementwise` or `Matrixwise` defines it

    def inner_of(self, state: Any) -> tuple[Transform, Any]:
        """The inner transformation as it is run, and its state inside the state of this wrapper.

        A wrapper that replaces numbers of `inner` by numbers of its state defines `inner_at(state)`,
        which returns `inner` with these numbers.

        Args:
            state: a state of this wrapper.
        """
        if isinstance(state, ScheduledState) and self.scheduled:
            state = state.inner
        inner = self.inner_at(state) if hasattr(self, "inner_at") else self.inner  # pyright: ignore
        hooks = "init_tree", "init_leaf", "init_matrix", "lower"
        if any(getattr(type(self), x, None) is not getattr(Wrapper, x, None) for x in hooks):
            for name in ("inner", "inner_state", "inner_opt_state", "base_optimizer_state"):
                if name in getattr(state, "_fields", ()):
                    return inner, getattr(state, name)
        return inner, state

    def tex(self, g: Tex, page: Page) -> Tex:
        return page.unknown(type(self).__name__, self.inner.tex(g, page))


def _as_inner(self: Any) -> bool:
    return self.inner.linear


# A wrapper that never squares a gradient declares `linear = as_inner`: it is linear if `inner` is.
as_inner: Any = functools.cached_property(_as_inner)


def moment_of(tx: Any) -> Any:
    """The transformation inside all the wrappers of `tx`."""
    while isinstance(tx, Wrapper):
        tx = tx.inner
    return tx

"""`Wrapper`: one transformation around another."""

from typing import TYPE_CHECKING, Any

from gradtx._core.latex import Page, Tex, call
from gradtx._core.lowering import Lowering
from gradtx._core.terms import Stream
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.unit import Unit


class Wrapper(Transform):
    """A transformation around another one, `inner`: gradtx's or Optax's, of arrays or of trees.

    There are two ways to write one.

    *Around what `inner` makes of each array.* Derive from `Wrapper` and `Elementwise` (or `Matrixwise`)
    and provide `update_leaf(update, state, param, given)`: `update` is what `inner` made of the
    gradient `given`. A state of its own is described by `init_leaf(param, inner)`, which puts `inner`
    where the state of the inner transformation belongs; without one, the state is that of `inner`.

    *Around the call.* Derive from `Wrapper` alone and provide
    `update_tree(updates, state, params, extra)` and, for a state of its own, `init_tree(params)`. They
    call `self.inner.update_tree(...)` and `self.inner.init_tree(...)`, or do not.

    Gradients come bounded to what can be squared, unless the class declares `linear = True`.

    >>> import gradtx, jax.numpy as jnp
    >>> class absolute(gradtx.Wrapper, gradtx.Elementwise):
    ...     def update_leaf(self, update, state, param, given):
    ...         return jnp.abs(update), state
    >>> absolute(gradtx.scale(2.0)).update(jnp.array([1.0, -3.0]), ())[0]
    Array([2., 6.], dtype=float32)
    """

    inner: Transform

    _hooks = ("init_tree", "update_tree")
    wraps = True

    linear = False

    if not TYPE_CHECKING:

        def init_leaf(self, param: Any, inner: Any) -> Any:
            """The state of one array, with `inner` where the inner transformation's state belongs."""
            return inner

        def init_matrix(self, x: Any, inner: Any) -> Any:
            """The state of matrices, with `inner` where the inner transformation's state belongs."""
            return inner

    def init_tree(self, params: PyTree) -> Any:
        return self.inner.init_tree(params) if self._calls else super().init_tree(params)

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        if self._calls:
            return low.whole(self, stream)
        if not isinstance(self, Unit):
            raise TypeError(
                f"`{type(self).__name__}` defines no `update_tree`. A subclass of `Wrapper` alone "
                "provides `update_tree(updates, state, params, extra)`; one of `Wrapper` and "
                "`Elementwise` provides `update_leaf(update, state, param, given)`."
            )
        stream = low.compute(stream) if self.whole else stream
        made, state = low.lower(self.inner, stream)
        given = stream if self.linear else low.bounded(stream)
        return self.lower_unit(low, (made, given), state)

    if TYPE_CHECKING:

        def lower_unit(
            self, low: Lowering, streams: tuple[Stream, ...], inner: Any
        ) -> tuple[Stream, Any]: ...  # that of `Elementwise` or `Matrixwise`

    @property
    def _calls(self) -> bool:
        """Whether it is written around the call, and not around what comes out of it."""
        return type(self).update_tree is not Transform.update_tree

    def tex(self, g: Tex, page: Page) -> Tex:
        return call(type(self).__name__, self.inner.tex(g, page))


def _as_inner(self: Any) -> bool:
    if "_linear" not in self.__dict__:
        self.__dict__["_linear"] = self.inner.linear
    return self.__dict__["_linear"]


# For `linear` of a wrapper that squares nothing itself: it is what its inner transformation is.
as_inner: Any = property(_as_inner)


def moment_of(tx: Any) -> Any:
    """The transformation inside all wrappers."""
    while isinstance(tx, Wrapper):
        tx = tx.inner
    return tx

"""Transformations without a state, made from a function: `stateless` and `stateless_with_tree_map`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from gradtx._core.authors import described
from gradtx._core.latex import THETA, Page, Tex
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise


class _Function(Transform):
    """What `stateless` and `stateless_with_tree_map` have in common: a function of two arguments."""

    f: Callable[[Any, Any], Any]

    def validate(self) -> None:
        name = type(self).__name__
        if not callable(self.f):
            raise TypeError(f"`{name}(f=...)` must be a function, not {described(self.f)}.")
        try:
            inspect.signature(self.f).bind(None, None)
        except TypeError:
            raise TypeError(
                f"`{name}(f=...)` must be a function of two arguments, the updates and the parameters; "
                f"`{getattr(self.f, '__name__', self.f)}` takes `{inspect.signature(self.f)}`."
            ) from None
        except ValueError:  # a function that has no signature in Python
            pass

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the function that was passed}"
        return page.function(show(self.f), words, g, THETA)


class stateless(_Function):
    """The transformation without a state that a function of the whole tree defines.

    $$ u = f(g, \\theta) $$

    A function prints as its name and compares by identity. To have a value that prints, pickles and can
    be swept, write a class: `class name(gradtx.Transform)` with the method `update_tree`.

    Args:
        f: a function from the tree of updates and the tree of parameters to the new tree of updates. If
            the parameters were not passed to `update`, the second argument is None.

    Raises:
        TypeError: if `f` is not a function of two arguments.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx = gradtx.stateless(lambda updates, params: jax.tree.map(jnp.negative, updates))
    >>> tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))[0]
    Array([-1.,  2.], dtype=float32)
    """

    linear = True  # whether `f` squares a gradient is not known; Optax does not clip either

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, Any]:
        return self.f(updates, params), state


class stateless_with_tree_map(_Function, Elementwise):
    """The transformation without a state that a function of one array defines.

    $$ u = f(g, \\theta) \\quad \\text{for every leaf} $$

    Args:
        f: a function from the update and the parameter of one leaf to the new update of this leaf.

    Raises:
        TypeError: if `f` is not a function of two arguments.
        ValueError: if `f` uses the parameter, and `update` is called without the parameters.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.stateless_with_tree_map(lambda update, param: 2.0 * update)
    >>> tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))[0]
    Array([ 2., -4.], dtype=float32)
    """

    linear = True

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        return self.f(update, param), state

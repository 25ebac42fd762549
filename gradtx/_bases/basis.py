"""`Basis`, the base class of the changes of basis that `in_basis` takes."""

from typing import Annotated, Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._core.authors import described
from gradtx._core.random_bits import mixed
from gradtx._core.schedule import at_step
from gradtx._core.shapes import InBasis, Matrices, Scalar, Shapes
from gradtx._core.values import Value


class Now(NamedTuple):
    """What a basis is told about the present step.

    Attributes:
        step: the number of steps before this one, an int32 scalar.
        seeds: a uint32 number per matrix, of the shape `[batch]`, for random numbers. Seeds differ
            between steps, leaves and matrices.
    """

    step: Scalar
    seeds: Annotated[jax.Array, "batch"]

    def normal(self, shape: tuple[int, ...], dtype: Any) -> InBasis:
        """Numbers from the standard normal distribution, for each matrix by its own seed.

        Args:
            shape: the shape `[batch, ...]` of the result.
            dtype: its dtype.
        """

        def one(seed: Scalar) -> jax.Array:
            return jax.random.normal(jax.random.key(seed), shape[1:], dtype)

        return jax.vmap(one)(self.seeds)


def seeds_of_matrices(seed: Scalar, count: int) -> Annotated[jax.Array, "_"]:
    """As many seeds as there are matrices in a leaf, from the seed of the leaf, which is the first.

    Args:
        seed: a uint32 scalar.
        count: the number of matrices.
    """
    return seed ^ mixed(jnp.arange(count, dtype=np.uint32))


class Basis(Value):
    r"""A change of basis for matrices, which may learn from the gradients.

    A basis is a linear map $B$ from matrices `[batch, in, out]` to matrices in the basis, which may be
    smaller. `in_basis` applies $B$ to the gradient, lets a transformation act there, and returns to
    parameters by the adjoint $B^H$. A gradient is a covector: a step that is taken in the basis is
    $B^H$ times that step for the parameters. For a rotation, this is the inverse.

    Subclasses provide `into(x, state)`, which returns $B x$, and `back(y, state)`, which returns
    $B^H y$. They may also provide

    - `init_matrix(x) -> state`: the state before the first step, a NamedTuple of arrays whose first axis
      is the batch. `x` has the shape and the dtype of the matrices, and no entries.
    - `size(inputs, outputs)`: the size of a matrix in the basis. It must not depend on anything else.
    - `learn(x, state, now) -> state`: what is learned from the gradient of every step. It must not
      change what `into` and `back` compute.
    - `refresh(x, state, now) -> state`: the state with a new basis. It is called on the steps for which
      `due(step)` holds, which by default are all steps.
    - `carry(y, degree, old, new) -> y`: an array of the inner transformation's state in the new basis,
      see there.

    Every method works on each matrix of the batch by itself, with its own state. So the devices of a
    mesh can share the matrices of a step, and each calls the methods for some of them. Only those
    arrays of the state travel that a method reads or changes. Random numbers come from
    `now.normal(shape, dtype)`, which are the same wherever a matrix is.

    A class whose `learns_first` is False learns from a gradient after the step with this gradient. With
    `skips_first`, the first step teaches the basis alone, and moves nothing. `rotation = True` says that
    $B$ is always a rotation, so that parameters have coordinates in the basis as well.

    >>> import gradtx, jax.numpy as jnp
    >>> class mirrored(gradtx.Basis):
    ...     rotation = True
    ...
    ...     def into(self, x, state):
    ...         return x[:, ::-1]
    ...
    ...     def back(self, y, state):
    ...         return y[:, ::-1]
    >>> tx = gradtx.in_basis(mirrored(), gradtx.identity() * jnp.array([[1.0], [5.0]]))
    >>> w = jnp.ones((2, 1))
    >>> tx.update(w, tx.init(w))[0]
    Array([[5.],
           [1.]], dtype=float32)
    """

    learns_first: ClassVar[bool] = True
    rotation: ClassVar[bool] = False

    @property
    def skips_first(self) -> bool:
        """Whether the first step teaches the basis alone."""
        return False

    @property
    def is_fixed(self) -> bool:
        """Whether the basis never changes, because the class does not define `refresh`."""
        return type(self).refresh is Basis.refresh

    def init_matrix(self, x: Shapes) -> Any:
        """The state before the first step; by default the empty state `optax.EmptyState()`.

        Args:
            x: an object with the shape `[batch, in, out]` and the dtype of the matrices.
        """
        return optax.EmptyState()

    def size(self, inputs: int, outputs: int) -> tuple[int, int]:
        """The size of a matrix in the basis; by default its own size.

        Args:
            inputs: the number of inputs of the matrix.
            outputs: the number of its outputs.
        """
        return inputs, outputs

    def into(self, x: Matrices, state: Any) -> Any:
        """The matrices in the basis.

        Args:
            x: the matrices `[batch, in, out]`.
            state: the state of these matrices.
        """
        raise self._undefined("into(x, state)")

    def back(self, y: InBasis, state: Any) -> Matrices:
        """The adjoint of `into`.

        Args:
            y: matrices in the basis.
            state: the state of these matrices.
        """
        raise self._undefined("back(y, state)")

    def learn(self, x: Matrices, state: Any, now: Now) -> Any:
        """The state after a gradient; by default the same.

        Args:
            x: the gradient as matrices `[batch, in, out]`.
            state: the state of these matrices.
            now: the present step.
        """
        return state

    def due(self, step: Scalar) -> Any:
        """Whether the basis is refreshed at this step; by default at every step.

        Args:
            step: the number of steps before this one.
        """
        every = getattr(self, "every", 1)
        return True if every == 1 else step % every == 0

    def refresh(self, x: Matrices, state: Any, now: Now) -> Any:
        """The state with a new basis; by default the same.

        Args:
            x: the gradient as matrices `[batch, in, out]`.
            state: the state of these matrices.
            now: the present step.
        """
        return state

    def carry(self, y: InBasis, degree: int, old: Any, new: Any) -> InBasis:
        """An array of the state of the inner transformation, in the new basis.

        By default, an array of degree 1 is taken back to parameters and into the new basis, which is
        right if $B B^H$ is the identity. All other arrays are kept.

        Args:
            y: the array as matrices in the old basis.
            degree: its degree in the gradient: 1 for an average, 2 for a mean square.
            old: the state of the old basis.
            new: the state of the new basis.
        """
        return self.into(self.back(y, old), new) if degree == 1 else y

    def words(self) -> str:
        """What the basis is, in words for the equation of `in_basis`."""
        return type(self).__name__.replace("_", " ")

    def at(self, step: Any) -> Self:
        """The basis with every schedule replaced by its value at a step.

        Args:
            step: the number of steps before this one.
        """
        own = type(self).__name__
        values: dict[str, Any] = {}
        for name in self._data:
            value = getattr(self, name)
            if isinstance(value, Basis):
                values[name] = value.at(step)
            elif callable(value):
                values[name] = at_step(value, step, f"{own}({name}=...)")
        return self._with(**values) if values else self

    def _undefined(self, method: str) -> TypeError:
        return TypeError(
            f"`{type(self).__name__}` does not define `{method}`. A subclass of `Basis` provides "
            "`into(x, state)` for matrices `[batch, in, out]`, and its adjoint `back(y, state)`."
        )


def check_basis(owner: Any, name: str) -> None:
    """Check that the field `name` of `owner` holds a basis.

    Raises:
        TypeError: if it holds something else.
    """
    value = getattr(owner, name)
    if not isinstance(value, Basis):
        raise TypeError(
            f"`{type(owner).__name__}({name}=...)` must be a basis, such as `eigenbasis()`, not "
            f"{described(value)}."
        )

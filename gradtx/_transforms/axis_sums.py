"""The accumulator of SM3, which bounds the sum of squares of an entry by one number per axis index."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.chain import chain, identity
from gradtx._compose.recipe import Recipe
from gradtx._core.latex import Page, Tex, plus, square, times
from gradtx._core.numerics import abs_square, average_of_squares
from gradtx._core.reduced import reduced_accumulator
from gradtx._core.sharding import replicated
from gradtx._core.transform import Transform
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.roots import root


class AxisSumsState(NamedTuple):
    """The state of `axis_sums_of_squares`: one number for every index of every axis, in one array."""

    sums: Any


class axis_sums_of_squares(Elementwise):
    r"""An upper bound of the sum of all squares of each entry, kept as one number per row and column.

    $$ u_{ij} = \min(r_i, c_j) + |g_{ij}|^2, \qquad r_i \leftarrow \max_j u_{ij}, \qquad
       c_j \leftarrow \max_i u_{ij} $$

    An array with more axes has one number for every index of each axis. A vector keeps the sum of the
    squares of every entry. The state is `AxisSumsState(sums)`, an array with the numbers of all axes,
    one axis after the other.

    Args:
        decay: None for the sum; or a number $b$ in [0, 1), so that the update is
            $b \min(r_i, c_j) + (1 - b)\, |g_{ij}|^2$, which bounds an average.

    The sum stops growing at half the largest number of its dtype, so it stays finite.

    Raises:
        ValueError: if `decay` lies outside its interval.

    Source: Anil et al., 2019, arXiv:1901.11150, algorithm SM3-II.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.axis_sums_of_squares(), jnp.zeros((2, 2))
    >>> u, state = tx.update(jnp.array([[1.0, 2.0], [3.0, 0.0]]), tx.init(w))
    >>> u, state.sums  # the rows, then the columns
    (Array([[1., 4.],
           [9., 0.]], dtype=float32), Array([4., 9., 9., 4.], dtype=float32))
    """

    decay: Hyper | None = None
    limits = {"decay": "[0, 1)"}
    degrees = {"sums": 2}

    def init_leaf(self, param: Any) -> AxisSumsState:
        # The numbers of a vector are those of its entries, and lie where the entries do.
        axis = 0 if len(param.shape) == 1 else None
        size = sum(param.shape) if param.shape else 1
        return AxisSumsState(reduced_accumulator(param, (size,), (axis,)))

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        shape = update.shape
        if not update.size:
            return abs_square(update), state
        parts = jnp.split(state.sums, list(itertools.accumulate(shape))[:-1])
        wide = [
            x.reshape([n if axis == k else 1 for axis, n in enumerate(shape)])
            for k, x in enumerate(parts)
        ]
        least = functools.reduce(jnp.minimum, wide) if shape else state.sums.reshape(())
        # The square is bounded, and not the sum: see `sum_of_squares`.
        room = 0.5 * jnp.finfo(least.dtype).max - least
        squares = jnp.minimum(abs_square(update), room)
        b = self.decay
        new = least + squares if b is None else average_of_squares(least, squares, b)
        if len(shape) < 2:
            return new, AxisSumsState(new.reshape(-1))
        axes = range(len(shape))
        tops = [jnp.max(new, tuple(axis for axis in axes if axis != k)) for k in axes]
        # On an Explicit mesh, only whole arrays can be joined.
        return new, AxisSumsState(jnp.concatenate([replicated(x)[0] for x in tops]))

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the smallest of the numbers of the row, the column, } \dots"
        top = r"\text{: for every row, column, } \dots \text{ the largest entry in it}"
        least, new = page.function("least", words, Tex("s_{t-1}")), square(g)
        if self.decay is not None:
            least = times(page.number(self.decay, r"\beta"), least)
            new = times(page.complement(self.decay, r"\beta"), new)
        page.notes.setdefault("s_t", r"= \operatorname{largest}\left(v_t\right),\quad s_0 = 0")
        page.notes.setdefault(r"\operatorname{largest}", top)
        return page.define("v", lambda _: plus(least, new))


class scale_by_sm3(Recipe):
    r"""SM3 divides the gradient by the root of `axis_sums_of_squares`, and averages the result.

    $$ u = b_1 u + (1 - b_1)\, g / \sqrt{s + \epsilon} $$

    Args:
        b1: the decay of the average, in [0, 1).
        b2: the decay of $s$, in [0, 1). None, or 1 as in Optax, means that $s$ is a sum.
        eps: $\epsilon \ge 0$.

    The state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval.

    Source: Anil et al., 2019, arXiv:1901.11150, algorithm SM3-II, where $b_1 = \epsilon = 0$.
    """

    b1: Hyper = 0.9
    b2: Hyper | None = None
    eps: Hyper = 1e-8
    limits = {"eps": "[0, inf)"}

    def expand(self) -> Transform:
        decay = None if isinstance(self.b2, float) and self.b2 == 1 else self.b2
        divided = identity() / root(axis_sums_of_squares(decay) + self.eps)
        return chain(divided, scale_by_momentum(self.b1))

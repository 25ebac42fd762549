"""The factored second moment of Adafactor, which keeps one number per row and one per column."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.chain import identity
from gradtx._compose.recipe import Recipe
from gradtx._core.dtypes import accumulator
from gradtx._core.latex import Page, Tex, fraction, plus, square, times
from gradtx._core.numerics import abs_square, average_of_squares
from gradtx._core.reduced import mean, reduced_accumulator
from gradtx._core.transform import Transform
from gradtx._core.values import Fixed, Hyper
from gradtx._schedules.power_decay import power_decay
from gradtx._transforms.moments import Moment
from gradtx._transforms.roots import root

FactoredAxes = Literal["largest", "last", "none"]


class FactoredMomentState(NamedTuple):
    """The state of `factored_second_moment`.

    For a factored array, `v_row` holds the averages over the first of the two axes, `v_col` those over
    the second one, and `v` is an array of one zero. For any other array, `v` is the second moment, and
    `v_row` and `v_col` are arrays of one zero.
    """

    v_row: Any
    v_col: Any
    v: Any


class factored_second_moment(Moment):
    r"""The second moment of a matrix, estimated from the averages of its rows and of its columns.

    $$ R_i = b\, R_i + (1 - b) \operatorname{mean}_j (|g_{ij}|^2 + \epsilon), \qquad
       C_j = b\, C_j + (1 - b) \operatorname{mean}_i (|g_{ij}|^2 + \epsilon), \qquad
       u_{ij} = \frac{R_i C_j}{\operatorname{mean}_i R_i} $$

    A matrix of $m \times n$ entries needs $m + n$ numbers of state. The estimate is exact where the
    squares are a product of a number per row and a number per column, and its sum is always that of the
    second moment. The other axes of an array are a batch of matrices. An array without two axes that are
    long enough keeps its full second moment of $|g|^2 + \epsilon$.

    Args:
        decay: $b$, in [0, 1).
        eps: $\epsilon \ge 0$, which is added to every square.
        min_dim_size_to_factor: the smallest length of the shorter of the two axes, 1 or more.
        factored_axes: which two axes are the matrix: "largest", the two longest ones, as in Optax;
            "last", the last two, as in torch; "none", so that no array is factored.
        floor: a bound $f \ge 0$ for small numbers, as in torch: the mean of $R$ is at least $f$, and
            the update at least $f^2$.

    The state is `FactoredMomentState(v_row, v_col, v)`. As a `Moment`, the estimate can be
    bias-corrected.

    Raises:
        ValueError: if a number lies outside its interval, or if `factored_axes` is unknown.

    Source: Shazeer & Stern, 2018, arXiv:1804.04235, algorithm 2.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> tx, w = gradtx.factored_second_moment(0.0, min_dim_size_to_factor=1), jnp.zeros((2, 2))
    >>> g = jnp.array([[1.0, 3.0], [2.0, 6.0]])
    >>> v, _ = tx.update(g, tx.init(w))  # the squares of a matrix of rank one
    >>> [round(float(x), 3) for x in v.ravel()]
    [1.0, 9.0, 4.0, 36.0]
    """

    decay: Hyper = 0.999
    eps: Hyper = 1e-30
    min_dim_size_to_factor: int = 128
    factored_axes: FactoredAxes = "largest"
    floor: Hyper = 0.0
    limits = {"decay": "[0, 1)", "eps": "[0, inf)", "floor": "[0, inf)"}
    degrees = {"v_row": 2, "v_col": 2, "v": 2}

    def validate(self) -> None:
        if self.min_dim_size_to_factor < 1:
            raise ValueError(
                f"`{type(self).__name__}(min_dim_size_to_factor={self.min_dim_size_to_factor})` must be "
                "a whole number, 1 or more."
            )

    def init_leaf(self, param: Any) -> FactoredMomentState:
        axes, shape = self._axes(param.shape), param.shape
        nothing, as_well = (reduced_accumulator(param, (1,), (None,)) for _ in range(2))
        if axes is None:
            return FactoredMomentState(nothing, as_well, accumulator(param, real=True))
        rows, columns = ([k for k in range(len(shape)) if k != axis] for axis in axes)
        return FactoredMomentState(
            reduced_accumulator(param, [shape[k] for k in rows], rows),
            reduced_accumulator(param, [shape[k] for k in columns], columns),
            nothing,
        )

    def update_leaf(self, update: jax.Array, state: Any, param: Any) -> tuple[jax.Array, Any]:
        squares, axes = abs_square(update) + self.eps, self._axes(update.shape)
        if axes is None:
            v = average_of_squares(state.v, squares, self.decay)
            return self._at_least(v, 2), state._replace(v=v)
        first, second = axes
        row = average_of_squares(state.v_row, mean(squares, [first]), self.decay)
        col = average_of_squares(state.v_col, mean(squares, [second]), self.decay)
        rows = jnp.expand_dims(row, first)
        # The quotient of two rows is of the order of 1, so that the product seldom overflows.
        whole = self._at_least(mean(rows, [second], keepdims=True), 1)
        ratio = rows / jnp.where(whole == 0, jnp.ones_like(whole), whole)
        v = jnp.minimum(ratio * jnp.expand_dims(col, second), jnp.finfo(ratio.dtype).max)
        return self._at_least(v, 2), state._replace(v_row=row, v_col=col)

    def _at_least(self, x: jax.Array, power: int) -> jax.Array:
        if isinstance(self.floor, float) and self.floor == 0:
            return x
        return jnp.maximum(x, jnp.asarray(self.floor**power).astype(x.dtype))

    def _axes(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """The two axes of the matrices in an array of this shape, of which the first is the longer one.

        The result is None for an array that is not factored.
        """
        if len(shape) < 2 or self.factored_axes == "none":
            return None
        order = sorted(range(len(shape)), key=shape.__getitem__)
        first, second = len(shape) - 1, len(shape) - 2
        if self.factored_axes == "largest":
            first, second = order[-1], order[-2]
        long_enough = min(shape[first], shape[second]) >= self.min_dim_size_to_factor
        return (first, second) if long_enough and min(shape) > 0 else None

    def gain(self, log_kept: Any, decay: Any) -> Any:
        """The output for a constant square of 1, see `Moment.gain`."""
        return -jnp.expm1(log_kept)

    def tex(self, g: Tex, page: Page) -> Tex:
        squares = page.symbol(plus(square(g), page.number(self.eps, r"\epsilon")))
        if self.factored_axes == "none":
            return page.average("v", self.decay, squares)
        kinds = {
            "largest": ("the longest axis", "the second longest axis"),
            "last": ("the last axis", "the axis before the last axis"),
        }
        first, second = (
            rf"\text{{: the mean along {words}}}" for words in kinds[self.factored_axes]
        )
        row = page.function("mean1", first, squares)
        column = page.function("mean2", second, squares)
        r, c = page.average("r", self.decay, row), page.average("c", self.decay, column)
        return fraction(times(r, c), page.function("mean2", "", r))


class scale_by_factored_rms(Recipe):
    r"""The gradient is divided by the root of a factored second moment, as in Adafactor.

    $$ u = g / \sqrt v, \qquad b_t = 1 - t^{-c} $$

    where $v$ is `factored_second_moment` with the decay $b_t$ in step $t$.

    Args:
        factored: whether matrices are factored.
        decay_rate: the exponent $c > 0$.
        step_offset: the number of steps by which $t$ starts later; until then $b_t = 0$.
        min_dim_size_to_factor: the smallest length of the shorter of the two axes, 1 or more.
        epsilon: a number, 0 or more, which is added to every square.
        factored_axes: which two axes are the matrix, see `factored_second_moment`.
        floor: a bound for small numbers, 0 or more, see `factored_second_moment`.
        decay_cap: an upper bound of $b_t$. None means no bound.

    The state is `optax.FactoredState(count, v_row, v_col, v)`; where a further number is a schedule,
    the state is that of `expand()`.

    Raises:
        ValueError: if a number lies outside its interval, or if `factored_axes` is unknown.
        TypeError: if `decay_rate` or `step_offset` is a schedule.

    Source: Shazeer & Stern, 2018, arXiv:1804.04235, algorithms 2 and 4, and section 7.2 for the decay.
    """

    factored: bool = True
    decay_rate: Fixed = 0.8
    step_offset: Fixed = 0.0
    min_dim_size_to_factor: int = 128
    epsilon: Hyper = 1e-30
    factored_axes: Literal["largest", "last"] = "largest"
    floor: Hyper = 0.0
    decay_cap: Hyper | None = None
    instead = {"decay_rate_fn": "write `identity() / root(factored_second_moment(decay))`"}
    renames = {"step": "count"}
    state = optax.FactoredState

    def expand(self) -> Transform:
        decay = power_decay(self.decay_rate, self.step_offset)
        return identity() / root(
            factored_second_moment(
                decay if self.decay_cap is None else decay.min(self.decay_cap),
                self.epsilon,
                self.min_dim_size_to_factor,
                self.factored_axes if self.factored else "none",
                self.floor,
            )
        )

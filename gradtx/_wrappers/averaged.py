"""Averages of the parameters, which are evaluated in place of the last parameters."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gradtx._compose.labels import as_mask, mask_leaves
from gradtx._compose.partition import select
from gradtx._compose.wrapper import Wrapper, as_inner
from gradtx._core.dtypes import accumulator, promote
from gradtx._core.latex import THETA, Page, Tex, plus, times
from gradtx._core.layout import shared
from gradtx._core.lowering import Lowering
from gradtx._core.schedule import at_step, next_count
from gradtx._core.terms import Stream
from gradtx._core.trees import PyTree
from gradtx._core.unit import Elementwise
from gradtx._core.values import Hyper
from gradtx._schedules.averaging import ema_weight


class AveragedState(NamedTuple):
    """The state of `averaged`.

    `count` is the number of steps taken, `average` the average of the parameters, in float32 at least,
    and `inner` the state of the inner transformation.
    """

    count: Any
    average: Any
    inner: Any


class averaged(Wrapper, Elementwise):
    r"""Keep an average of the parameters beside an optimizer, for evaluation.

    $$ \bar\theta \leftarrow \bar\theta + w_n (\theta_t - \bar\theta), \qquad
       \theta_t = \theta_{t-1} + u_t $$

    Here $n$ is the number of parameters that are in the average already. The updates $u$ are those of
    the optimizer. The rule of the average is its weight: `ema_weight` for an exponential average,
    `mean_weight` for the mean (SWA), `polynomial_weight` or `power_weight` for averages in which later
    parameters count more. `gradtx.eval_params(tx, params, state)` returns the average.

    The average is kept in float32 at least. The sum $\theta_{t-1} + u_t$ is taken in this precision, so
    it is the new parameter before `apply_updates` rounds it to the dtype of the parameters. Whatever
    changes updates belongs inside: `averaged(chain(clip(1.0), adamw(1e-3)))`.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        weight: $w$, a schedule that is called with $n$. The default is `ema_weight(0.999)`.
        start: the step after which the parameters are the first in the average. Until then the average
            is the last parameters. With 0, the initial parameters are the first.
        every: the number of steps from one average to the next. A mean over very many steps in float32
            hardly changes in the end, since each weight is tiny; average every tenth or hundredth step.
        mask: which leaves are averaged, as in `masked`. The others need no memory, and `eval_params`
            returns them unchanged. None means all leaves.

    The state is `AveragedState(count, average, inner)`.

    Raises:
        TypeError: if `inner` is not a transformation, or if `weight` is not a schedule.
        ValueError: if `start` or `every` is out of range, if `mask` does not fit the parameters, or if
            `update` is called without the parameters.

    Sources: Polyak & Juditsky, 1992; Izmailov et al., 2018, arXiv:1803.05407.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.averaged(gradtx.sgd(1.0), gradtx.mean_weight())
    >>> params = jnp.zeros(())
    >>> state = tx.init(params)
    >>> for gradient in (1.0, 1.0, 4.0):
    ...     u, state = tx.update(jnp.full((), gradient), state, params)
    ...     params = gradtx.apply_updates(params, u)
    >>> float(params), float(gradtx.eval_params(tx, params, state))  # the mean of -1, -2 and -6
    (-6.0, -3.0)
    """

    weight: Hyper = ema_weight()
    start: int = 1
    every: int = 1
    mask: Any = None
    linear = as_inner
    asks_schedules = False  # the weight is evaluated at the number of averages, and not at the step
    keeps_updates = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", as_mask(self.mask))
        super().__post_init__()

    def validate(self) -> None:
        if not callable(self.weight):
            raise TypeError(
                f"`averaged(weight={self.weight!r})` must be a schedule. For an exponential average "
                "with the decay 0.999 write `averaged(tx, gradtx.ema_weight(0.999))`, and for the mean "
                "`averaged(tx, gradtx.mean_weight())`."
            )
        for name, least in (("start", 0), ("every", 1)):
            count = getattr(self, name)
            if type(count) is not int or count < least:
                raise ValueError(
                    f"`averaged({name}={count!r})` must be a whole number of steps, {least} or more."
                )

    def init_leaf(self, param: Any, inner: Any) -> AveragedState:
        if isinstance(param, jax.ShapeDtypeStruct):
            return AveragedState(shared(0), accumulator(param), inner)
        # `Call.init` copies it if it is the parameter itself.
        average = param.astype(promote(param.dtype, jnp.float32))
        return AveragedState(shared(0), average, inner)

    def begin(self, state: AveragedState, measured: Any) -> tuple[AveragedState, Any]:
        count = next_count(state.count)
        since = count - self.start
        n = jnp.maximum(since, 0) // self.every
        weight = at_step(self.weight, n, "averaged(weight=...)")
        one, zero = jnp.ones_like(weight), jnp.zeros_like(weight)
        taken = jnp.where(since % self.every == 0, weight, zero)
        return state._replace(count=count), jnp.where(since <= 0, one, taken)

    def update_leaf(
        self, update: jax.Array, state: AveragedState, param: Any, given: Any, weight: Any
    ) -> tuple[jax.Array, AveragedState]:
        theta, mean = param + update, state.average
        # The first form keeps the average of a constant exactly. The second one does not overflow if the
        # weight is large.
        slow = mean + (weight * theta - weight * mean)
        fast = (1 - weight) * mean + weight * theta
        mixed = jnp.where(weight <= 0.01, slow, fast)
        # With the weights 0 and 1 one of the two numbers does not count, even if it is infinite.
        average = jnp.where(weight >= 1, theta, jnp.where(weight > 0, mixed, mean))
        return update, state._replace(average=average)

    def eval_tree(self, params: PyTree, state: AveragedState) -> PyTree:
        """The parameters to evaluate with, given the parameters and the state of this wrapper."""
        return state.average

    def lower(self, low: Lowering, stream: Stream) -> tuple[Stream, Any]:
        made, inner = low.lower(self.inner, stream)
        own = made
        if self.mask is not None:
            inside = low.once(("mask", self.mask), lambda: mask_leaves(self.mask, low, "averaged"))
            own = select(made, inside)
        new, state = self.lower_unit(low, (own, own), inner)
        return [u if n is None else n for n, u in zip(new, made, strict=True)], state

    @property
    def bare(self) -> "averaged":
        return self._with(inner=None, weight=None)

    def tex(self, g: Tex, page: Page) -> Tex:
        update = page.symbol(self.inner.tex(g, page))
        value = page.value(self.weight, Tex("n"))
        weight = page.define("w", lambda _: value, index="_n")
        old = Tex(r"\bar{\theta}_{t-1}")
        new = plus(plus(THETA, update), old, "-")
        page.define(r"\bar{\theta}", lambda _: plus(old, times(weight, new)))
        page.notes["n"] = r"\text{: the number of parameters that the average holds already}"
        return update

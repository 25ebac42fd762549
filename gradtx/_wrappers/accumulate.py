"""Accumulation of gradients over several micro-batches, with one step for all of them."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import accumulator, real_dtype, scalar
from gradtx._core.latex import Page, Tex
from gradtx._core.schedule import at_step, next_count
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._core.values import Hyper
from gradtx._wrappers.conditional import (
    all_finite,
    choose,
    counter,
    deciding_axes,
    init_inner,
    step_if,
)


class DroppedState(NamedTuple):
    """The state of `accumulate` that counts micro-batches which are not finite.

    Attributes:
        kept: the number of micro-batches in the present mean.
        dropped: the number of micro-batches that were dropped so far.
    """

    kept: Any
    dropped: Any


class accumulate(Wrapper):
    r"""Take one step of an optimizer for the mean gradient of several micro-batches.

    $$ \bar g = \frac{1}{k} \sum_{i=1}^k g_i $$

    Every call of `update` is given the gradient of one micro-batch. The $k$-th call returns the updates
    of `inner` for the mean gradient, and the calls before it return zero updates (-0.0). The mean is
    kept in float32 at least, so the step is that of one large batch, up to rounding. Schedules of
    `inner` count its own steps.

    `inner` runs on the $k$-th call alone: a compiled step contains it in one branch of a `lax.cond`.
    This also holds in a sweep whose states are made inside of the mapped function, since then all
    members count alike. If every member has its own $k$, or its own state from outside, JAX runs both
    branches on every call.

    Args:
        inner: the optimizer, of gradtx or of Optax. It is given the further arguments of the $k$-th
            call.
        every: $k$, the number of micro-batches per step, 1 or more, or a schedule of the number of steps
            that `inner` has taken. It is rounded to a whole number.
        use_grad_mean: whether `inner` is given the mean of the gradients. False means their sum.
        drop_nonfinite: whether a micro-batch with an infinite or NaN entry is left out. The mean is then
            that of the others among the $k$. If none of them is left, no step is taken.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded, for `drop_nonfinite`.

    The state is `optax.MultiStepsState(mini_step, gradient_step, inner_opt_state, acc_grads,
    skip_state)`. With `drop_nonfinite=True`, `skip_state` is `DroppedState(kept, dropped)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `every` is less than 1.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.accumulate(gradtx.sgd(1.0), every=2)
    >>> state = tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 3.0):
    ...     u, state = tx.update(jnp.full((), gradient), state)
    ...     print(float(u))
    -0.0
    -2.0
    """

    every: Hyper = 1
    use_grad_mean: bool = True
    drop_nonfinite: bool = False
    axis_name: Hashable | None = None
    limits = {"every": "[1, inf)"}
    linear = True
    keeps_updates = True
    asks_schedules = False  # the schedule is evaluated at the number of steps of `inner`

    def init_tree(self, params: PyTree) -> optax.MultiStepsState:
        dropping, own = self.drop_nonfinite, deciding_axes(None, None, self.every)
        here = deciding_axes(params, self.axis_name, self.every) if dropping else own
        # With `drop_nonfinite`, the number of steps depends on the gradients, and a schedule on it.
        ends = here if callable(self.every) else own
        return optax.MultiStepsState(
            mini_step=counter(ends),
            gradient_step=counter(here),
            inner_opt_state=init_inner(self.inner, params, here),
            acc_grads=jax.tree.map(accumulator, params),
            skip_state=DroppedState(counter(here), counter(here)) if dropping else (),
        )

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, optax.MultiStepsState]:
        step, dropping = state.gradient_step, state.skip_state
        mini_step = state.mini_step + 1
        last = mini_step >= whole(at_step(self.every, step, "accumulate(every=...)"))
        # Whether to take a step does not depend on the gradients, so that a sweep keeps the `cond`.
        good, kept = jnp.asarray(True), mini_step
        if self.drop_nonfinite:
            good = all_finite(updates, self.axis_name)
            kept = dropping.kept + good.astype(jnp.int32)
            dropped = jnp.where(good, dropping.dropped, next_count(dropping.dropped))
            dropping = DroppedState(jnp.where(last, 0, kept), dropped)
        gradients, structure = flatten(updates)
        old = structure.flatten_up_to(state.acc_grads)
        sums = [
            None if g is None else self._added(a, g, good, kept)
            for a, g in zip(old, gradients, strict=True)
        ]
        given = structure.unflatten(sums)
        call = given, state.inner_opt_state, params, extra
        out, inner = choose(
            last,
            lambda: step_if(kept > 0 if self.drop_nonfinite else True, self.inner, *call),
            lambda: step_if(False, self.inner, *call),
        )
        acc = [
            a if x is None else jnp.where(last, jnp.zeros_like(x), x)
            for a, x in zip(old, sums, strict=True)
        ]
        new = optax.MultiStepsState(
            mini_step=jnp.where(last, 0, mini_step),
            gradient_step=jnp.where(last & (kept > 0), next_count(step), step),
            inner_opt_state=inner,
            acc_grads=structure.unflatten(acc),
            skip_state=dropping,
        )
        return out, new

    def _added(self, acc: Any, g: Any, good: Any, kept: Any) -> Any:
        """The mean, or the sum, of the micro-batches with one more gradient."""
        if not self.use_grad_mean:
            return jnp.where(good, acc + g.astype(acc.dtype), acc)
        # The rate is 1 for the first micro-batch. The difference of two products cannot overflow.
        rate = (1 / scalar(jnp.maximum(kept, 1))).astype(real_dtype(acc.dtype))

        def mean(a: Any, x: Any) -> Any:
            return jnp.where(good, a + (rate * x - rate * a), a)

        g = g.astype(acc.dtype)
        if jnp.iscomplexobj(acc):
            return jax.lax.complex(mean(acc.real, g.real), mean(acc.imag, g.imag))
        return mean(acc, g)

    def has_updated(self, state: Any) -> jax.Array:
        """Whether the last call of `update` was the last one of its micro-batches, and took a step.

        Args:
            state: the state of this transformation after that call.
        """
        return (state.mini_step == 0) & (state.gradient_step > 0)

    def gradient_transformation(self) -> Transform:
        """This transformation itself; scripts for Optax's `MultiSteps` call this method."""
        return self

    def tex(self, g: Tex, page: Page) -> Tex:
        words = r"\text{: the %s of the gradients of several micro-batches}"
        words %= "mean" if self.use_grad_mean else "sum"
        mean = page.function("micromean" if self.use_grad_mean else "microsum", words, g)
        return self.inner.tex(page.symbol(mean), page)


def whole(steps: Any) -> jax.Array:
    """A number of steps as an integer: a schedule may return 3.9999998 for 4."""
    return jnp.round(scalar(steps)).astype(jnp.int32)


def MultiSteps(
    opt: optax.GradientTransformation,
    every_k_schedule: int | Callable[[Any], Any],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[..., Any] | None = None,
) -> accumulate:
    """Optax's name for `accumulate`: `MultiSteps(adam(1e-3), 4)` is `accumulate(adam(1e-3), 4)`.

    In Optax, a micro-batch that is skipped does not count as one of the `k`. Here it does, so that the
    step does not depend on the gradients.

    Args:
        opt: the optimizer, of gradtx or of Optax.
        every_k_schedule: the number of micro-batches per step, or a schedule of the number of steps.
        use_grad_mean: whether the optimizer is given the mean of the gradients. False means their sum.
        should_skip_update_fn: `optax.skip_not_finite`, which means `drop_nonfinite=True`, or None.

    Raises:
        TypeError: if `should_skip_update_fn` is another function.

    >>> import gradtx
    >>> gradtx.MultiSteps(gradtx.sgd(0.1), every_k_schedule=4)
    accumulate(sgd(0.1), every=4.0)
    """
    if should_skip_update_fn not in (None, optax.skip_not_finite):
        raise TypeError(
            f"`MultiSteps(should_skip_update_fn={should_skip_update_fn!r})` must be None or "
            "`optax.skip_not_finite`. To skip steps with a large gradient, write "
            "`skip_spikes(accumulate(...))` or `accumulate(skip_spikes(...), every=k)`."
        )
    return accumulate(opt, every_k_schedule, use_grad_mean, should_skip_update_fn is not None)

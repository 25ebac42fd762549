"""Steps whose gradients are not finite are skipped."""

from collections.abc import Hashable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import optax

from gradtx._compose.wrapper import Wrapper
from gradtx._core.latex import Page, Tex
from gradtx._core.schedule import next_count
from gradtx._core.trees import PyTree
from gradtx._wrappers.conditional import all_finite, counter, deciding_axes, init_inner, step_if
from gradtx._wrappers.loss_scale import refuse_loss_scale


class SkipNonfiniteState(NamedTuple):
    """The state of `skip_nonfinite`, which begins like that of `optax.apply_if_finite`.

    Attributes:
        notfinite_count: the number of steps in a row, up to the last one, that were not finite.
        last_finite: whether the gradients of the last step were finite.
        total_notfinite: the number of all steps that were not finite.
        inner_state: the state of the inner transformation.
        gave_up: whether there were more than `max_consecutive` such steps in a row at any time.
    """

    notfinite_count: Any
    last_finite: Any
    total_notfinite: Any
    inner_state: Any
    gave_up: Any


class skip_nonfinite(Wrapper):
    """Skip every step in which a gradient has an infinite or NaN entry.

    One bad entry in one leaf skips the whole step: the updates are -0.0, so that the parameters keep
    every bit, and `inner` is not run and keeps its state. Steps that are skipped are counted, and
    `gradtx.readings(state)` shows the counts. More than `max_consecutive` such steps in a row mean that
    something is wrong. Then the flag `gave_up` of the state is set and stays set, and
    `gradtx.check(state)` raises an error. Call it in the loop on the host, such as once per log line.

    The decision depends on the gradients. Under `jax.vmap`, JAX therefore runs `inner` for all members
    on every step, and keeps the old state where a member skips.

    Put it around everything that has a state: `skip_nonfinite(chain(clip(1.0), adamw(1e-3)))`.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        max_consecutive: how many steps in a row may be skipped before the optimizer gives up.
        then: what happens to steps that are not finite after that. "skip" skips them too, and "apply"
            passes them to `inner`, as in Optax, so that they reach the parameters.
        axis_name: inside `shard_map`, the mesh axis, or the tuple of axes, over which the leaves are
            sharded, so that all devices skip the same steps. With None, every device decides for what it
            holds.

    The state is `SkipNonfiniteState(notfinite_count, last_finite, total_notfinite, inner_state,
    gave_up)`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `max_consecutive` is not a whole number, or if `then` is an unknown word.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.skip_nonfinite(gradtx.adam(1e-3))
    >>> params = {"w": jnp.ones(2), "b": jnp.ones(())}
    >>> bad = {"w": jnp.array([1.0, jnp.nan]), "b": jnp.ones(())}
    >>> updates, state = tx.update(bad, tx.init(params), params)
    >>> updates["w"]
    Array([-0., -0.], dtype=float32)
    >>> {name: int(x) for name, x in gradtx.readings(state).items() if "finite" in name}
    {'notfinite_count': 1, 'total_notfinite': 1}
    """

    max_consecutive: int = 10
    then: Literal["skip", "apply"] = "skip"
    axis_name: Hashable | None = None
    linear = True
    keeps_updates = True

    def validate(self) -> None:
        if type(self.max_consecutive) is not int or self.max_consecutive < 0:
            raise ValueError(
                f"`skip_nonfinite(max_consecutive={self.max_consecutive!r})` must be a whole number of "
                "steps, 0 or more."
            )
        if self.then not in ("skip", "apply"):
            raise ValueError(f"`skip_nonfinite(then={self.then!r})` must be 'skip' or 'apply'.")
        refuse_loss_scale(self, self.inner, "the scale would not see an overflow, and never fall")

    def init_tree(self, params: PyTree) -> SkipNonfiniteState:
        axes = deciding_axes(params, self.axis_name)
        inner = init_inner(self.inner, params, axes)
        flags = counter(axes, True), counter(axes, False)
        return SkipNonfiniteState(counter(axes), flags[0], counter(axes), inner, flags[1])

    def update_tree(
        self, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
    ) -> tuple[PyTree, SkipNonfiniteState]:
        finite = all_finite(updates, self.axis_name)
        in_a_row = jnp.where(finite, jnp.int32(0), next_count(state.notfinite_count))
        gives_up = in_a_row > self.max_consecutive
        run = finite | gives_up if self.then == "apply" else finite
        out, inner = step_if(run, self.inner, updates, state.inner_state, params, extra)
        total = jnp.where(finite, state.total_notfinite, next_count(state.total_notfinite))
        gave_up = state.gave_up | gives_up
        return out, SkipNonfiniteState(in_a_row, finite, total, inner, gave_up)

    def tex(self, g: Tex, page: Page) -> Tex:
        return self.inner.tex(g, page)


def apply_if_finite(
    inner: optax.GradientTransformation, max_consecutive_errors: int
) -> skip_nonfinite:
    """Optax's name for `skip_nonfinite(inner, max_consecutive_errors, then="apply")`.

    Args:
        inner: the optimizer, of gradtx or of Optax.
        max_consecutive_errors: how many steps in a row may be skipped. Later ones are passed to `inner`.

    Raises:
        TypeError: if `inner` is not a transformation.
        ValueError: if `max_consecutive_errors` is not a whole number.

    >>> import gradtx
    >>> gradtx.apply_if_finite(gradtx.sgd(0.1), 3)
    skip_nonfinite(sgd(0.1), max_consecutive=3, then='apply')
    """
    return skip_nonfinite(inner, max_consecutive_errors, "apply")

"""`check`, which raises an error in the loop on the host if an optimizer has given up."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from gradtx._core.function_arguments import check_arguments
from gradtx._core.trees import PyTree, path_string, unboxed


def check(state: PyTree) -> None:
    """Raise an error if a transformation in the optimizer has given up, and do nothing otherwise.

    `skip_nonfinite` gives up after too many steps in a row that were not finite. A compiled step cannot
    raise errors, so it sets a flag in the state, and this function reads the flag. Reading waits for the
    step to finish. Call it as often as the metrics are logged, and outside of `jax.jit`.

    Args:
        state: the state of an optimizer or of a sweep, or an object that has such a state as its
            `opt_state`, such as Flax's `nnx.Optimizer` and `TrainState`.

    Raises:
        FloatingPointError: if a transformation has given up; the message says where in the state.
        TypeError: if `state` is traced.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.skip_nonfinite(gradtx.sgd(0.1), max_consecutive=0)
    >>> _, state = tx.update(jnp.array(jnp.nan), tx.init(jnp.zeros(())))
    >>> gradtx.check(state)
    Traceback (most recent call last):
        ...
    FloatingPointError: The optimizer has given up at `.` of its state: more than ...
    """
    check_arguments(check, locals())
    state = unboxed(getattr(state, "opt_state", state))
    holders = jax.tree_util.tree_leaves_with_path(state, is_leaf=_may_give_up)
    for path, node in holders:
        if _may_give_up(node):
            _check_one(path_string(path) or ".", node)
            check(node.inner_state)


def _may_give_up(node: Any) -> bool:
    return "gave_up" in getattr(node, "_fields", ())


def _check_one(place: str, node: Any) -> None:
    if isinstance(node.gave_up, Tracer):
        raise TypeError(
            "`check(state)` was called with a traced state. Call it outside of `jax.jit`, in the loop "
            "on the host, with the state that the compiled step returned."
        )
    gave_up = np.asarray(node.gave_up)
    if not gave_up.any():
        return
    which, most = "", ""
    if gave_up.ndim:
        which = f", in the members {np.flatnonzero(gave_up).tolist()} of the batch"
        most = "at most "
    in_a_row, total = (np.max(np.asarray(x)) for x in (node.notfinite_count, node.total_notfinite))
    raise FloatingPointError(
        f"The optimizer has given up at `{place}` of its state{which}: more than `max_consecutive` "
        f"steps in a row were not finite. The number of such steps is {most}{total} in total, and {most}"
        f"{in_a_row} in a row up to the last step. These steps did not change the parameters, unless "
        "`then='apply'` was chosen. Look at the loss and at the data of these steps, lower the learning "
        "rate, or continue from an earlier checkpoint."
    )

"""`reset`, which starts a part of an optimizer's state again."""

from typing import Any

from gradtx._core.differences import differences, not_a_state
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, unboxed
from gradtx._training.states import assigned, matches, named_parts


def reset(state: PyTree, tx: Transform, params: PyTree, *names: Any) -> Any:
    """A copy of a state in which the parts with these names are as `init` makes them.

    `reset(state, tx, params, "head")` starts the group "head" of a `partition` again: its moments, its
    counters and the step of its schedules. A dotted name restricts this to a part of the group, as in
    `get`: after `reset(state, tx, params, "head.mu", "head.nu", "head.count")` its schedules go on.

    Args:
        state: a state that `init` or `update` returned.
        tx: the optimizer.
        params: the parameters as they are now.
        names: the labels of groups, or the names of other entries of the state. Without names, the
            whole state is started again.

    Raises:
        KeyError: if no entry has one of these names.
        TypeError: if `tx` is not a transformation.
        ValueError: if `state` is not a state of `tx`; the message lists what differs.

    >>> import gradtx, jax.numpy as jnp
    >>> params = {"body": jnp.ones(1), "head": jnp.ones(1)}
    >>> rule = gradtx.by_path("head")
    >>> tx = gradtx.partition({True: gradtx.adam(0.1), False: gradtx.adam(0.1)}, rule)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> state = gradtx.reset(state, tx, params, True)
    >>> int(gradtx.get(state, "True.count")), int(gradtx.get(state, "False.count"))
    (0, 1)
    """
    check_arguments(reset, locals())
    tx = as_transform(tx, "reset(tx=...)")
    state, params = unboxed(getattr(state, "opt_state", state)), unboxed(params)
    fresh = tx.init(params)
    if found := differences(fresh, state):
        raise ValueError("`reset`: " + not_a_state(tx, found))
    if not names:
        return fresh
    entries = {path: value for path, value, _ in named_parts(fresh)}
    for name in names:
        paths = [path for path, _ in matches(fresh, str(name))]
        # A parameter may have the same name as the label of a group.
        groups = [path for path in paths if path[-2:-1] == ("inner_states",)]
        for path in groups or paths:
            state = assigned(state, {path}, entries[path])
    return state

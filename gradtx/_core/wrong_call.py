"""What is wrong with the arguments of `update`, found after the step has failed."""

from typing import Any

import jax

from gradtx._core.authors import described
from gradtx._core.boundary import with_empty_parts_of
from gradtx._core.differences import differences, not_a_state, unknown_like
from gradtx._core.trees import PyTree, flatten


def wrong_call(tx: Any, program: Any, state: Any, params: PyTree, error: Exception) -> str:
    """A message if a step failed because of its arguments, or an empty string.

    The arguments are examined only after the step has failed, so that a correct step costs no time.

    Args:
        tx: the transformation.
        program: the program of `tx` for these gradients, or for these parameters.
        state: the state that was passed to `update`.
        params: the parameters that were passed to `update`, or None.
        error: what the step raised.
    """
    if isinstance(error, NameError) and "axis name" in str(error):
        axis = str(error).partition("axis name: ")[2].partition(". ")[0]
        return (
            f"`axis_name` of a transformation in `{tx}` names the mesh axis {axis!r}, which does not "
            "exist here. Call `update` inside `jax.shard_map` over a mesh with this axis, or leave "
            "`axis_name` out."
        )
    want = unknown_like(program.layout.unflatten(program.numbers))
    try:
        program.layout.flatten_up_to(with_empty_parts_of(want, state))
        fits = True
    except (ValueError, TypeError):
        fits = False
        order = (
            "Call `update(updates, state, params)` with the state that `init` or `update` returned."
        )
        if not isinstance(state, tuple | list | dict):
            return f"The state for `update` of `{tx}` is missing: it is {described(state)}. {order}"
        if flatten(state)[1] == program.lowering.structure:
            return (
                f"The second argument of `update` of `{tx}` is a tree like the gradients. {order}"
            )
    try:
        want = jax.eval_shape(program.init, program.lowering.leaves)
    except Exception:
        if fits:  # `init` fails, too, or needs the entries of the parameters: `error` says more
            return ""
    found = differences(want, state)
    problem = not_a_state(tx, found) if found or not fits else ""
    if problem and params is None:
        problem += (
            " If the state is right, a gradient does not have the shape of its parameter: pass the "
            "parameters to `update`, which then names the gradient."
        )
    if not fits or not problem:
        return problem
    if isinstance(error, TypeError | ValueError):
        return f"{problem}\nThe step failed with this error: {error}"
    error.add_note(problem)  # the user's own code may have failed for another reason
    return ""

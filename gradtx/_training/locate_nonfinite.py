"""`locate_nonfinite`, which says where a step got a value that is not finite."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from gradtx._core.dtypes import cast, compute_dtype
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, is_inexact, path_string, unboxed
from gradtx._training.watched import Search, Stage


@dataclasses.dataclass(frozen=True, repr=False)
class Nonfinite:
    """Where a step got a value that is not finite; it prints as a sentence.

    Attributes:
        what: what has the value: "gradient", "parameter", "state", "argument" (a further argument of
            `update`), "hyperparameter", "stage" (the update that a stage returned), "new state" (the
            state that the step returned), or "rounding" (the update in the dtype of the parameters).
        path: the path of the leaf in the gradients, the parameters or the state.
        stage: for "stage" and "hyperparameter", the code of the transformation, and else "".
        place: for "stage", where the transformation stands, such as `chain[1]/adamw/chain[0]`.
        message: what is wrong, and what to do.
    """

    what: Literal[
        "gradient",
        "parameter",
        "state",
        "argument",
        "hyperparameter",
        "stage",
        "new state",
        "rounding",
    ]
    path: str
    stage: str
    place: str
    message: str

    def __repr__(self) -> str:
        return self.message


def locate_nonfinite(
    tx: optax.GradientTransformation,
    updates: PyTree,
    state: PyTree,
    params: PyTree = None,
    **extra: Any,
) -> Nonfinite | None:
    """Where a step of an optimizer gets its first value that is not finite, or None.

    Call it with the arguments of the step that went wrong, outside of `jax.jit`. It looks at the
    gradients, the parameters, the state, the further arguments and the hyperparameters. Then it takes
    the step once more, and looks at what every stage returns: every link of a chain, branch of a
    fan-out, group of a partition and inner transformation, also inside recipes. It is slow, and changes
    nothing.

    A value that is infinite in the state before the first step, such as the best loss of
    `reduce_on_plateau`, may be so later.

    Args:
        tx: the optimizer, of gradtx or of Optax. A transformation of Optax is one stage.
        updates: the gradients.
        state: the state before the step.
        params: the parameters, if the optimizer needs them.
        extra: the further keyword arguments of `update`.

    Returns:
        None, or an object that prints as a sentence, with the attributes `what` ("gradient",
        "parameter", "state", "argument", "hyperparameter", "stage", "new state" or "rounding"), `path`
        (of the leaf), `stage` (its code), `place` (in the composition) and `message`.

    Raises:
        TypeError: if an argument is traced, or if `tx` is not a transformation.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.chain(gradtx.scale(2.0), gradtx.scale(1e38))
    >>> found = gradtx.locate_nonfinite(
    ...     tx, {"w": jnp.array([1.0, 3.0])}, tx.init({"w": jnp.ones(2)})
    ... )
    >>> found.stage, found.place, found.path
    ('scale(1e+38)', 'chain[1]', 'w')
    >>> found
    `scale(1e+38)` at `chain[1]` made 1 of the 2 entries of `w` infinite...
    """
    check_arguments(locate_nonfinite, locals())
    tx = as_transform(tx, "locate_nonfinite(tx=...)")
    state = unboxed(getattr(state, "opt_state", state))
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((updates, state, params, extra))):
        raise TypeError(
            "`locate_nonfinite` was called with traced arrays. Call it outside of `jax.jit`, with the "
            "gradients, the state and the parameters of the step that went wrong."
        )
    # Under these flags of JAX, the step would end with an error before the stage is known.
    with jax.debug_nans(False), jax.debug_infs(False):
        return _before(tx, updates, state, params, extra) or _during(
            tx, updates, state, params, extra
        )


def _before(
    tx: Transform, updates: PyTree, state: PyTree, params: PyTree, extra: Any
) -> Nonfinite | None:
    """What is wrong before the step."""
    if found := _first(updates):
        return _named(
            "gradient",
            found,
            "The gradient at {}. Look at the loss and the batch of this step; `skip_nonfinite(tx)` "
            "skips such steps.",
        )
    if found := _first(params):
        return _named(
            "parameter",
            found,
            "The parameter at {}. An earlier step made it so: continue from a checkpoint before that "
            "step.",
        )
    if (found := _first(state)) and (found := _first(state, _allowed(tx, params, updates))):
        return _named(
            "state",
            found,
            "The state at {}. An earlier step made it so: continue from a checkpoint before that "
            "step, or make this part of the state again with `init`.",
        )
    if found := _first(extra):
        return _named("argument", found, "The argument of `update` at {}. Pass a finite value.")
    for path, x in jax.tree_util.tree_leaves_with_path(tx):
        if is_inexact(x) and np.any(np.isnan(np.asarray(x))):
            where = path_string(path)
            message = (
                f"The hyperparameter `{where}` of `{tx}` is NaN. Replace it with `gradtx.replace`."
            )
            return Nonfinite("hyperparameter", where, str(tx), "", message)
    return None


def _during(
    tx: Transform, updates: PyTree, state: PyTree, params: PyTree, extra: Any
) -> Nonfinite | None:
    """What goes wrong in the step."""
    search = Search()
    out, new = search.watched(tx).update(updates, state, params, **extra)
    if search.stage is not None:
        return _of_stage(search.stage)
    if found := _first(out):
        return _named(
            "rounding",
            found,
            "The update at {}, because it is too large for its dtype. Keep the parameters in a dtype "
            "with a larger range, or clip the update.",
        )
    if (found := _first(new)) and (found := _first(new, _allowed(tx, params, updates))):
        return _named(
            "new state",
            found,
            "The state that the step returned at {}, from finite values. Clip the gradients before this "
            "part of the optimizer.",
        )
    return None


def _of_stage(stage: Stage) -> Nonfinite:
    at = f" at `{stage.place}`" if stage.place else ""
    what, remedy = "infinite", "Clip the gradients before this stage."
    if stage.nans:
        what = f"not finite ({stage.nans} of them NaN)"
        remedy = (
            "Clip the gradients before this stage, and look in it for a division by 0 and for a root "
            "or a logarithm of a number that is not positive."
        )
    message = (
        f"`{stage.tx}`{at} made {stage.bad} of the {stage.size} entries of `{stage.path or '.'}` "
        f"{what}, from finite values. {remedy}"
    )
    return Nonfinite("stage", stage.path, str(stage.tx), stage.place, message)


def _named(what: Any, found: tuple[str, Any], message: str) -> Nonfinite:
    path, x = found
    bad = ~jnp.isfinite(x)
    kind = "NaN" if bool(jnp.any(jnp.isnan(x))) else "infinite"
    words = f"`{path or '.'}` has {int(jnp.sum(bad))} of {bad.size} entries that are not finite ({kind})"
    return Nonfinite(what, path, "", "", message.format(words))


def _first(tree: PyTree, allowed: frozenset[str] = frozenset()) -> tuple[str, Any] | None:
    """The path and the array of the first leaf with an entry that is not finite, or None."""
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        if is_inexact(x):
            wide = cast(x, compute_dtype(jnp.asarray(x)))
            if not bool(jnp.all(jnp.isfinite(wide))) and path_string(path) not in allowed:
                return path_string(path), wide
    return None


def _allowed(tx: Transform, params: PyTree, updates: PyTree) -> frozenset[str]:
    """The paths of what is infinite in the state before the first step."""
    fresh, allowed = tx.init(updates if params is None else params), frozenset()
    while found := _first(fresh, allowed):
        allowed |= {found[0]}
    return allowed

"""Converting states: from Optax, from version 0.1, and between a recipe and its composition."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.authors import described
from gradtx._core.boundary import as_param
from gradtx._core.dtypes import like
from gradtx._core.function_arguments import check_arguments
from gradtx._core.program import Program
from gradtx._core.random_bits import bits_of_keys
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._training.nodes import translated
from gradtx._training.states import plain_state
from gradtx._transforms.accumulators import CenteredMomentState
from gradtx._transforms.scale import LearningRateState, scale_by_learning_rate


def from_optax(tx: Transform, state: Any = None, params: PyTree = None) -> Any:
    """The state with which `tx` continues the run of the Optax optimizer of the same name.

    The `step` of `LearningRateState` is set to the count in Optax's state. Averages that Optax keeps in
    bfloat16 become float32.

    Args:
        tx: an optimizer, or a chain, of gradtx.
        state: the state of the same optimizer of Optax, with arrays or `jax.ShapeDtypeStruct`s. If it is
            None, the result is the state that the Optax optimizer would have, with
            `jax.ShapeDtypeStruct`s for its arrays: with this as its target, Orbax restores a checkpoint
            of the Optax optimizer.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: if `params` is missing, or if the states do not correspond. Then the message has the
            path of the first difference.
        TypeError: if `tx` is not a transformation of gradtx.

    >>> import gradtx, jax.numpy as jnp, optax
    >>> params = {"w": jnp.ones(2)}
    >>> old = optax.adamw(1e-3).init(params)
    >>> state = gradtx.from_optax(gradtx.adamw(1e-3), old, params)
    >>> type(state[0]).__name__, int(state[2].step)
    ('ScaleByAdamState', 0)
    """
    if params is None:
        raise ValueError("`from_optax` needs the parameters: call `from_optax(tx, state, params)`.")
    check_arguments(from_optax, locals())
    program = _program(_checked("from_optax", tx, Transform), params)
    own = jax.eval_shape(lambda leaves: program.init(leaves), program.lowering.leaves)
    if state is None:
        scheduled = {
            call.cells[0]: bool(call.scheduled)
            for call in program.lowering.calls
            if isinstance(call.tx, scale_by_learning_rate)
        }
        return _as_optax(own, program.layout.unflatten(program.numbers), scheduled)
    counts = [x for _, x in optax.tree.get_all_with_path(state, "count")]
    count = counts[0] if counts else jnp.int32(0)
    return _taken(own, translated(state), count, "")


def _as_optax(own: Any, numbers: Any, scheduled: dict[int, bool]) -> Any:
    """The state that Optax's optimizer has in the place where gradtx's optimizer has `own`."""
    if isinstance(own, LearningRateState):
        return (
            optax.ScaleByScheduleState(own.step) if scheduled[numbers.step] else optax.EmptyState()
        )
    if isinstance(own, CenteredMomentState):
        return optax.ScaleByRStdDevState(*own)
    if isinstance(own, tuple):
        fields = [_as_optax(x, n, scheduled) for x, n in zip(own, numbers, strict=True)]
        return type(own)(*fields) if hasattr(own, "_fields") else tuple(fields)
    if isinstance(own, dict) and isinstance(numbers, dict):
        return {key: _as_optax(x, numbers[key], scheduled) for key, x in own.items()}
    return own


def _taken(own: Any, theirs: Any, count: Any, path: str) -> Any:
    """The arrays of a state of Optax, `theirs`, in the structure of a state of gradtx, `own`."""
    if isinstance(own, LearningRateState):
        counts = "count" in getattr(theirs, "_fields", ())  # every tuple has a method `count`
        step = jnp.asarray(theirs.count if counts else count, jnp.int32)
        return LearningRateState(step, jnp.zeros((), own.last_learning_rate.dtype))
    if not jax.tree.leaves(own):
        return own
    fields = getattr(own, "_fields", None)
    if isinstance(own, tuple) and isinstance(theirs, tuple) and len(own) == len(theirs):
        if fields == getattr(theirs, "_fields", None):
            names = fields or [str(i) for i in range(len(own))]
            taken = [
                _taken(o, t, count, f"{path}/{name}")
                for o, t, name in zip(own, theirs, names, strict=True)
            ]
            return type(own)(*taken) if fields else tuple(taken)
    elif isinstance(own, dict) and isinstance(theirs, dict) and own.keys() == theirs.keys():
        return {key: _taken(x, theirs[key], count, f"{path}/{key}") for key, x in own.items()}
    elif jax.tree.structure(own) == jax.tree.structure(theirs):
        theirs = bits_of_keys(theirs)
        wrong = [
            a.shape != b.shape for a, b in zip(*map(jax.tree.leaves, (own, theirs)), strict=True)
        ]
        if not any(wrong):
            abstract = all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(theirs))
            return own if abstract else like(jax.tree.map(jnp.asarray, theirs), own)
    raise ValueError(
        f"`from_optax`: at `{path.removeprefix('/') or '.'}` gradtx keeps {_shapes(own)}, and the state "
        f"of Optax has {_shapes(theirs)}. Pass the state of the Optax optimizer with the same settings."
    )


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda x: f"{x.dtype}{list(np.shape(x))}", state)


def from_version_0_1(tx: Transform, state: Any, params: PyTree) -> Any:
    """The state with which `tx` continues a run of gradtx 0.1.

    Args:
        tx: the same optimizer, with the same settings, as in the run of version 0.1.
        state: the state that version 0.1 made, or the lists and dictionaries that Orbax, without a
            target, restores from a checkpoint of that state.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: if the state does not belong to this optimizer and these parameters.
        TypeError: if `tx` is not a transformation of gradtx.

    >>> import gradtx, jax.numpy as jnp
    >>> old = [{"count": jnp.int32(5), "last_learning_rate": jnp.float32(0.1)}]
    >>> gradtx.from_version_0_1(gradtx.sgd(0.1), old, jnp.ones(2))[1].step
    Array(5, dtype=int32)
    """
    program = _program(_checked("from_version_0_1", tx, Transform), params)
    numbers, layout = program.plain
    own = layout.unflatten(numbers)
    new = jax.eval_shape(lambda leaves: program.init_cells(leaves), program.lowering.leaves)
    wanted = [
        (str(path[-1]), number)
        for path, number in jax.tree_util.tree_leaves_with_path(own)
        if hasattr(new[number], "shape")
    ]
    old = _leaves_of_0_1(state, "")
    # Version 0.1 kept this field for NAdam where it is not needed any more.
    if not any("log_kept" in name for name, _ in wanted):
        old = [(name, x) for name, x in old if name != "log_kept"]
    shapes = [new[number].shape for _, number in wanted], [np.shape(x) for _, x in old]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`from_version_0_1`: the state of `{tx}` holds arrays of shapes {shapes[0]}, and the state "
            f"that was passed holds {shapes[1]}. Pass the state of the same optimizer and parameters."
        )
    cells = list(program.init_cells(_zeros(program)))
    for (_, number), (_, x) in zip(wanted, old, strict=True):
        cells[number] = jnp.asarray(x, new[number].dtype)
    return program.layout.unflatten([cells[number] for number in program.numbers])


# The order of fields in the states of version 0.1. A checkpoint that is restored without a target has
# them sorted by name.
_ORDERS = (
    ("count", "log_kept", "inner"),
    ("count", "log_kept", "mu"),
    ("count", "last_learning_rate"),
    ("count", "inner"),
    ("maximum", "inner"),
)


def _leaves_of_0_1(node: Any, name: str) -> list[tuple[str, Any]]:
    """The arrays of a state in the order of version 0.1, each with the name of its field."""
    if isinstance(node, dict):
        order = next((x for x in _ORDERS if {*x} == {*node}), None) or sorted(node)
        items = [(str(key), node[key]) for key in order]
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        items = list(zip(node._fields, node, strict=True))  # pyright: ignore
    elif isinstance(node, tuple | list):
        items = [(name, x) for x in node]
    else:
        return [(name, x) for x in jax.tree.leaves(node)]
    return [leaf for key, x in items for leaf in _leaves_of_0_1(x, key)]


def _zeros(program: Program) -> list[Any]:
    return [None if x is None else jnp.zeros(x.shape, x.dtype) for x in program.lowering.leaves]


def expanded_state(tx: Recipe, state: Any, params: PyTree) -> Any:
    """The state of the composition `tx.expand()` with the arrays of a state of the recipe `tx`.

    Args:
        tx: a recipe, such as `scale_by_adam()`.
        state: a state of `tx`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: if `state` is not a state of `tx`.
        TypeError: if `tx` is not a recipe.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.scale_by_adam(), jnp.ones(2)
    >>> m, v = gradtx.expanded_state(tx, tx.init(w), w)
    >>> type(m).__name__
    'BiasCorrectionState'
    """
    check_arguments(expanded_state, locals())
    program = _program(_checked("expanded_state", tx, Recipe), params)
    plain = plain_state("expanded_state", tx, program, state)
    return _program(tx.children[0], params).from_plain(plain)


def recipe_state(tx: Recipe, state: Any, params: PyTree) -> Any:
    """The state of the recipe `tx` with the arrays of a state of the composition `tx.expand()`.

    This is the inverse of `expanded_state`. If the composition has several counters that always agree,
    the recipe keeps the last of them.

    Args:
        tx: a recipe, such as `scale_by_adam()`.
        state: a state of `tx.expand()`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Raises:
        ValueError: if `state` is not a state of `tx.expand()`.
        TypeError: if `tx` is not a recipe.
    """
    check_arguments(recipe_state, locals())
    composition = _checked("recipe_state", tx, Recipe).children[0]
    plain = plain_state("recipe_state", composition, _program(composition, params), state)
    return _program(tx, params).from_plain(plain)


def _checked(function: str, tx: Any, kind: type[Any]) -> Any:
    """`tx`, or a `TypeError` if `tx` is not a transformation of this kind."""
    if not isinstance(tx, kind):
        wanted = "a recipe" if kind is Recipe else "a transformation of gradtx"
        raise TypeError(
            f"`{function}(tx=...)` must be {wanted}, such as `adam(1e-3)`, not {described(tx)}."
        )
    return tx


def _program(tx: Transform, params: PyTree) -> Program:
    leaves, structure = flatten(params)
    return tx.program([as_param(p) for p in leaves], structure)

"""States that come from elsewhere: from Optax, from version 0.1, from the composition of a recipe."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradtx._compose.recipe import Recipe
from gradtx._core.boundary import as_param
from gradtx._core.dtypes import like
from gradtx._core.program import Program
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, flatten
from gradtx._transforms.scale import LearningRateState, scale_by_learning_rate


def from_optax(tx: Transform, state: Any = None, params: PyTree = None) -> Any:
    """The state of `tx` that continues where Optax's optimizer of the same name stopped.

    Args:
        tx: an optimizer or a chain of gradtx's.
        state: the state of Optax's counterpart, of arrays or of `jax.ShapeDtypeStruct`s. Without one
            the result is the structure of that state, abstract: the target with which Orbax restores a
            checkpoint that Optax's optimizer wrote.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    The learning rate's step is Optax's count. Averages that Optax keeps in bfloat16 become float32.
    Raises `ValueError` where the states do not correspond, with the path.

    >>> import gradtx, jax.numpy as jnp, optax
    >>> params = {"w": jnp.ones(2)}
    >>> old = optax.adamw(1e-3).init(params)
    >>> state = gradtx.from_optax(gradtx.adamw(1e-3), old, params)
    >>> type(state[0]).__name__, int(state[2].step)
    ('ScaleByAdamState', 0)
    """
    program = _program(tx, params)
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
    return _taken(own, state, count, "")


def _as_optax(own: Any, numbers: Any, scheduled: dict[int, bool]) -> Any:
    """The state of Optax's counterpart in the place of one of gradtx's."""
    if isinstance(own, LearningRateState):
        return (
            optax.ScaleByScheduleState(own.step) if scheduled[numbers.step] else optax.EmptyState()
        )
    if isinstance(own, tuple):
        fields = [_as_optax(x, n, scheduled) for x, n in zip(own, numbers, strict=True)]
        return type(own)(*fields) if hasattr(own, "_fields") else tuple(fields)
    if isinstance(own, dict) and isinstance(numbers, dict):
        return {key: _as_optax(x, numbers[key], scheduled) for key, x in own.items()}
    return own


def _taken(own: Any, theirs: Any, count: Any, path: str) -> Any:
    """The numbers of Optax's state in the structure of gradtx's."""
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
        wrong = [
            a.shape != b.shape for a, b in zip(*map(jax.tree.leaves, (own, theirs)), strict=True)
        ]
        if not any(wrong):
            abstract = all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves(theirs))
            return own if abstract else like(jax.tree.map(jnp.asarray, theirs), own)
    raise ValueError(
        f"`from_optax`: at `{path.removeprefix('/') or '.'}` gradtx keeps {_shapes(own)}, and Optax's "
        f"state has {_shapes(theirs)}. Pass the state of the Optax optimizer with the same settings."
    )


def _shapes(state: Any) -> Any:
    return jax.tree.map(lambda x: f"{x.dtype}{list(np.shape(x))}", state)


def from_version_0_1(tx: Transform, state: Any, params: PyTree) -> Any:
    """The state of `tx` that continues a run of gradtx 0.1.

    Args:
        tx: the optimizer, as it was written for version 0.1.
        state: its state, as version 0.1 made it or as Orbax restores it without a target (lists and
            dictionaries).
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    Raises `ValueError` if the state is not one of this optimizer.

    >>> import gradtx, jax.numpy as jnp
    >>> old = [{"count": jnp.int32(5), "last_learning_rate": jnp.float32(0.1)}]
    >>> gradtx.from_version_0_1(gradtx.sgd(0.1), old, jnp.ones(2))[1].step
    Array(5, dtype=int32)
    """
    program = _program(tx, params)
    numbers, layout = program.plain
    own = layout.unflatten(numbers)
    new = jax.eval_shape(lambda leaves: program.init_cells(leaves), program.lowering.leaves)
    wanted = [
        (str(path[-1]), number)
        for path, number in jax.tree_util.tree_leaves_with_path(own)
        if hasattr(new[number], "shape")
    ]
    old = _leaves_of_0_1(state, "")
    if not any("log_kept" in name for name, _ in wanted):  # NAdam's, which it needs no longer
        old = [(name, x) for name, x in old if name != "log_kept"]
    shapes = [new[number].shape for _, number in wanted], [np.shape(x) for _, x in old]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`from_version_0_1`: the state of `{tx}` holds arrays of shapes {shapes[0]}, and the state "
            f"that was passed {shapes[1]}. Pass the state of the same optimizer and parameters."
        )
    cells = list(program.init_cells(_zeros(program)))
    for (_, number), (_, x) in zip(wanted, old, strict=True):
        cells[number] = jnp.asarray(x, new[number].dtype)
    return program.layout.unflatten([cells[number] for number in program.numbers])


# In which order version 0.1 kept the fields that a checkpoint sorts by name.
_ORDERS = (
    ("count", "log_kept", "inner"),
    ("count", "log_kept", "mu"),
    ("count", "last_learning_rate"),
    ("count", "inner"),
    ("maximum", "inner"),
)


def _leaves_of_0_1(node: Any, name: str) -> list[tuple[str, Any]]:
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
    """The state of `tx.expand()` that holds the same numbers as a state of the recipe `tx`.

    Args:
        tx: a recipe, such as `scale_by_adam()`.
        state: a state of `tx`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.

    >>> import gradtx, jax.numpy as jnp
    >>> tx, w = gradtx.scale_by_adam(), jnp.ones(2)
    >>> m, v = gradtx.expanded_state(tx, tx.init(w), w)
    >>> type(m).__name__
    'BiasCorrectionState'
    """
    plain = _program(tx, params).to_plain(state)
    return _program(tx.children[0], params).from_plain(plain)


def recipe_state(tx: Recipe, state: Any, params: PyTree) -> Any:
    """The state of the recipe `tx` that holds the same numbers as a state of `tx.expand()`.

    The way back from `expanded_state`. Where the composition has several counters that always agree,
    the last one is kept.

    Args:
        tx: a recipe, such as `scale_by_adam()`.
        state: a state of `tx.expand()`.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.
    """
    plain = _program(tx.children[0], params).to_plain(state)
    return _program(tx, params).from_plain(plain)


def _program(tx: Transform, params: PyTree) -> Program:
    leaves, structure = flatten(params)
    return tx.program([as_param(p) for p in leaves], structure)

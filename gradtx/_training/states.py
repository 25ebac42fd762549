"""Reading and writing the entries of an optimizer's state by their names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from gradtx._core.authors import described
from gradtx._core.hyperparameters import check_hyperparameter
from gradtx._core.limits import outside
from gradtx._core.program import Program
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree
from gradtx._wrappers.hyperparams import Name


def _steps(name: Any) -> tuple[str, ...]:
    """The steps of a path that the name of an entry stands for, such as `learning_rate.peak_value`."""
    return tuple(str(name).split("."))


def named_parts(
    state: Any, path: tuple[str, ...] = (), own: bool = False
) -> list[tuple[tuple[str, ...], Any, bool]]:
    """The named parts of a state, which are the fields of NamedTuples and the entries of dictionaries.

    For each part the result has its path, its value, and whether the library chose its name. This is so
    for the fields of NamedTuples and for hyperparameters (`own`), and not for parameters and labels.
    """
    if isinstance(state, Transform):
        return []
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        items, named, field = zip(state._fields, state, strict=True), True, True  # pyright: ignore
    elif isinstance(state, dict):
        items, named, field = state.items(), True, own
    elif isinstance(state, tuple | list):
        items, named, field = ((str(i), x) for i, x in enumerate(state)), False, False
    else:
        return []
    found = []
    for name, value in items:
        here = (*path, *_steps(name))
        tuned = isinstance(state, optax.InjectStatefulHyperparamsState) and name == "hyperparams"
        # The keys of `hyperparams_states` are names of hyperparameters, whose values are elsewhere.
        inside = [] if name == "hyperparams_states" else named_parts(value, here, tuned)
        found += ([(here, value, field)] if named else []) + inside
    return found


def matches(state: Any, name: str) -> list[tuple[tuple[str, ...], Any]]:
    """The paths and the values of the parts of a state that a dotted name matches."""
    if not isinstance(name, str):
        raise TypeError(
            f"The name of an entry of the state must be a string, not {described(name)}."
        )
    *narrow, last = name.split(".")

    def fits(path: tuple[str, ...]) -> bool:
        steps = iter(path[:-1])
        return path[-1] == last and all(any(step == want for step in steps) for want in narrow)

    named = [(path, value, field) for path, value, field in named_parts(state) if fits(path)]
    # A parameter may have the same name as a field of the state, and every moment has an entry for it.
    fields = any(field for _, _, field in named)
    found = [(path, value) for path, value, field in named if field or not fields]
    if narrow and (exact := [x for x in found if x[0] == (*narrow, last)]):
        return exact
    if not found:
        names = sorted({path[-1] for path, _, _ in named_parts(state)})
        if not names:
            raise KeyError(
                f"The state has no entry named `{name}`, since it has no named entries at all. Pass a "
                f"state that `init` or `update` returned; this is {described(state)}."
            )
        raise KeyError(f"The state has no entry named `{name}`; it has {', '.join(names)}.")
    return found


def get(state: PyTree, name: str) -> Any:
    """The entry of an optimizer's state that has this name, such as `get(state, "mu")`.

    Args:
        state: a state that `init` or `update` returned.
        name: the name of a field, of a label or of a parameter. A dotted name restricts the search to a
            part of the state: `get(state, "muon.mu")`, `get(state, "0.count")`. A complete path matches
            exactly one entry.

    Raises:
        KeyError: if no entry or more than one entry matches. The message lists the paths.
        TypeError: if `name` is not a string.

    >>> import gradtx, jax.numpy as jnp
    >>> gradtx.get(gradtx.adam(1e-3).init({"w": jnp.ones(2)}), "nu")
    {'w': Array([0., 0.], dtype=float32)}
    """
    found = matches(state, name)
    if len(found) > 1 and (exact := [x for x in found if ".".join(x[0]) == name]):
        return exact[0][1]
    if len(found) > 1:  # the name that `summarize` shows
        steps = lambda path: [x for x in path if x not in ("inner_state", "inner_states")]
        if len(shown := [x for x in found if ".".join(steps(x[0])) == name]) == 1:
            return shown[0][1]
        listed = ", ".join(".".join(path) for path, _ in found)
        raise KeyError(
            f"The state has several entries named `{name}`. Pass one of their paths: {listed}."
        )
    return found[0][1]


def set(state: PyTree, **values: Any) -> PyTree:
    """A copy of an optimizer's state in which every entry with one of these names has the new value.

    A dotted name restricts the change to a part of the state, as in `get`:
    `set(state, **{"0.count": 0})`. The new values are cast to the dtypes of the old ones.

    Args:
        state: a state that `init` or `update` returned.
        values: the new values by the names of their entries. Their structure and shapes must be those of
            the old values.

    Raises:
        KeyError: if no entry has this name.
        TypeError: if a new value is not a number or an array.
        ValueError: if a new value has a different structure or shape, or if it is meant for a
            hyperparameter of `tunable` that is a schedule, or that the optimizer would refuse.

    >>> import gradtx, jax.numpy as jnp
    >>> state = gradtx.set(gradtx.adam(1e-3).init(jnp.ones(2)), mu=jnp.ones(2))
    >>> gradtx.get(state, "mu")
    Array([1., 1.], dtype=float32)
    """
    for name, value in values.items():
        targets = {path for path, _ in matches(state, name)}
        state = assigned(state, targets, value)
    return state


def plain_state(function: str, tx: Transform, program: Program, state: PyTree) -> Any:
    """The state of a program as its composition keeps it, see `Program.to_plain`.

    Raises:
        ValueError: if `state` is not a state of `tx`, the transformation of the program.
    """
    try:
        return program.to_plain(state)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{function}(state=...)` must be a state of `{tx}` that `init` or `update` returned for "
            f"these parameters. A state of another structure was passed: {jax.tree.structure(state)}."
        ) from None


def assigned(
    node: Any, targets: Any, value: Any, path: tuple[str, ...] = (), scheduled: Any = ()
) -> Any:
    """A copy of `node` in which the entries at the paths `targets` are `value`.

    `scheduled` has the names of the hyperparameters that are schedules.
    """

    def child(name: Any, old: Any) -> Any:
        here = (*path, *_steps(name))
        if here not in targets:
            return assigned(old, targets, value, here, scheduled)
        if path[-1:] == ("hyperparams",) and name in scheduled:
            raise ValueError(
                f"`set`: `{name}` is a schedule, which computes the value at every step. Set a number "
                f"inside of the schedule, such as `{name}.peak_value`, if the state has one; or make an "
                "optimizer with another schedule, and continue with the same state."
            )
        if isinstance(name, Name):
            _check_number(name, value, old)
        leaves, structure = jax.tree.flatten(old)
        if structure != jax.tree.structure(value):
            # Flax NNX keeps every array in a variable, which is a pytree with one leaf.
            if structure.num_leaves == 1 == jax.tree.structure(value).num_nodes:
                return structure.unflatten([_as_entry(value, leaves[0], ".".join(here))])
            raise ValueError(
                f"`set`: the new value of `{'.'.join(here)}` must have the structure {structure}, not "
                f"{jax.tree.structure(value)}."
            )
        return jax.tree.map(lambda o, v: _as_entry(v, o, ".".join(here)), old, value)

    if isinstance(node, optax.InjectStatefulHyperparamsState):
        scheduled = (*node.hyperparams_states,)
    kind: Any = type(node)
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return kind(*(child(n, v) for n, v in zip(kind._fields, node, strict=True)))
    if isinstance(node, dict):
        return kind((n, child(n, v)) for n, v in node.items())
    if isinstance(node, tuple | list):
        return kind(child(i, v) for i, v in enumerate(node))
    return node


def _check_number(name: Name, value: Any, old: Any) -> None:
    """Refuse what the optimizer would refuse as this hyperparameter.

    Raises:
        ValueError: if the number is NaN, or lies outside of an interval, also after it is rounded.
        TypeError: if it is not a number.
    """
    check_hyperparameter(value, f"set({name}=...)", schedules=False, bounded=bool(name.intervals))
    for interval in name.intervals:
        if problem := outside(value, interval):
            raise ValueError(f"`set({name}={show(value)})` {problem}.")
        dtype = jnp.result_type(*jax.tree.leaves(old))
        if isinstance(value, float) and outside(rounded := dtype.type(value).item(), interval):
            raise ValueError(
                f"`set({name}={show(value)})` must lie in {interval}, and the state keeps it in "
                f"{dtype}, where it is rounded to {rounded}."
            )


def _as_entry(value: Any, old: Any, name: str) -> jax.Array:
    if np.shape(value) != np.shape(old):
        raise ValueError(
            f"`set`: the new value of `{name}` must have shape {np.shape(old)}, not {np.shape(value)}."
        )
    if not (hasattr(value, "dtype") or isinstance(value, int | float | complex | list)):
        raise TypeError(
            f"`set`: the new value of `{name}` must be a number or an array, not {described(value)}."
        )
    new = jnp.asarray(value, jnp.result_type(old))  # a user may have put a Python number there
    # An array that lies on a mesh keeps its sharding.
    placed = isinstance(old, jax.Array) and not isinstance(old, Tracer) and old.committed
    return jax.device_put(new, old.sharding) if placed and not isinstance(new, Tracer) else new

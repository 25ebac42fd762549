"""`check_state`, which says before a resumed run starts what differs from the run that was saved."""

import dataclasses
import difflib
from typing import Any

import jax
import numpy as np

from gradtx._core.boundary import with_empty_parts_of
from gradtx._core.differences import differences, listed
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.static import show
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, unboxed
from gradtx._core.values import Value


def check_state(
    state: PyTree, tx: Transform, params: PyTree, saved: Transform | None = None
) -> None:
    """Raise an error that lists what differs between a saved state and what an optimizer needs.

    Call it when a run is resumed. It compares the paths, the shapes and the dtypes of all arrays, and
    never their entries, so it needs no more than the metadata of a checkpoint. If `saved` is passed, it
    also compares the two optimizers: their stages and their hyperparameters.

    Args:
        state: the saved state: arrays, `jax.ShapeDtypeStruct`s, or the metadata that Orbax returns. What
            has it as `opt_state`, such as Flax's `nnx.Optimizer` and `TrainState`, is accepted, too.
        tx: the optimizer that is to go on with this state.
        params: the parameters, or their `jax.ShapeDtypeStruct`s.
        saved: the optimizer that made the state, such as `gradtx.parse(text)` with the text `repr(tx)`
            that was saved with the state. None means that only the state is checked.

    Raises:
        ValueError: if something differs. The message lists every difference.
        TypeError: if `tx` or `saved` is not a transformation.

    >>> import gradtx, jax, jax.numpy as jnp
    >>> params = {"w": jnp.ones(2)}
    >>> old = gradtx.parse("adamw(0.1, b2=0.95)")
    >>> gradtx.check_state(old.init(params), gradtx.adamw(0.1), params, saved=old)
    Traceback (most recent call last):
        ...
    ValueError: The optimizer is not the one that was saved:
      - `adamw.b2` is 0.999 and was 0.95
    If the change is meant, leave out `saved`.
    """
    check_arguments(check_state, locals())
    tx = as_transform(tx, "check_state(tx=...)")
    if isinstance(saved, str):
        raise TypeError(
            f"`check_state(saved={show(saved)})` must be an optimizer: pass `gradtx.parse(...)` of this "
            "text."
        )
    state = unboxed(getattr(state, "opt_state", state))
    need = jax.eval_shape(tx.init, jax.eval_shape(lambda x: x, unboxed(params)))
    problems = []
    if found := differences(need, state):
        problems += [
            f"The state is not one that `init` of `{tx}` makes for these parameters:{listed(found)}",
            "To carry over the arrays that still fit, call `gradtx.migrate(state, tx, params)`.",
        ]
    elif problem := _containers(need, state):
        problems.append(problem)
    if saved is not None:
        old = as_transform(saved, "check_state(saved=...)")
        if changes := changed_fields(tx, old):
            problems.append(f"The optimizer is not the one that was saved:{listed(changes)}")
            problems += [] if found else ["If the change is meant, leave out `saved`."]
    if problems:
        raise ValueError("\n".join(problems))


def _containers(need: PyTree, state: PyTree) -> str:
    """What is wrong with a state of arrays in other containers, or an empty string."""
    if not all(isinstance(x, jax.Array | np.ndarray) for x in jax.tree.leaves(state)):
        return ""  # a description of arrays, such as metadata, may have any containers
    if jax.tree.structure(with_empty_parts_of(need, state)) == jax.tree.structure(need):
        return ""
    return (
        "The state has the right arrays in other containers, such as a list for a tuple. If it was "
        "restored from a checkpoint, pass `jax.eval_shape(tx.init, params)` as the target."
    )


def changed_fields(new: Any, old: Any, where: str = "") -> list[str]:
    """One sentence without a period for each difference between two values, such as optimizers.

    Args:
        new: the present value.
        old: the value that was saved.
        where: the place of both, such as `chain.links[1]`.
    """
    if isinstance(new, Value) and type(new) is type(old):
        here = where or type(new).__name__
        names = [field.name for field in dataclasses.fields(new)]  # pyright: ignore
        if new == old:
            return []
        return [
            line
            for name in names
            for line in changed_fields(getattr(new, name), getattr(old, name), f"{here}.{name}")
        ]
    if isinstance(new, dict) and isinstance(old, dict):
        lines = []
        for key in {**old, **new}:
            here = f"{where}[{key!r}]"
            if key not in new:
                lines.append(f"`{here}` is missing and was {show(old[key])}")
            elif key not in old:
                lines.append(f"`{here}` is new: {show(new[key])}")
            else:
                lines += changed_fields(new[key], old[key], here)
        return lines
    if (
        type(new) is tuple
        and type(old) is tuple
        and any(isinstance(x, Value) for x in (*new, *old))
    ):
        return _changed_items(new, old, where)
    if isinstance(new, Value) or isinstance(old, Value) or show(new) != show(old):
        place = f"`{where}`" if where else "the optimizer"
        return [f"{place} is {show(new)} and was {show(old)}"]
    return []


def _changed_items(new: tuple[Any, ...], old: tuple[Any, ...], where: str) -> list[str]:
    """The differences between two sequences, such as the links of chains, aligned by their classes."""
    kinds = [[type(x).__name__ for x in items] for items in (old, new)]
    matcher = difflib.SequenceMatcher(None, *kinds, autojunk=False)
    lines: list[str] = []
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal" or (tag == "replace" and i_end - i == j_end - j):
            for n in range(j_end - j):
                lines += changed_fields(new[j + n], old[i + n], f"{where}[{j + n}]")
            continue
        lines += [f"`{where}[{n}]` is missing and was {show(old[n])}" for n in range(i, i_end)]
        lines += [f"`{where}[{n}]` is new: {show(new[n])}" for n in range(j, j_end)]
    return lines

"""What differs between two trees of arrays, such as an optimizer's state and the state that it needs."""

from typing import Any

import jax
import numpy as np

from gradtx._core.trees import PyTree, leaf_items, unboxed


class AnyArray:
    """A leaf that stands for an array of unknown shape and dtype, and differs from nothing."""


def differences(want: PyTree, have: PyTree) -> list[str]:
    """One sentence without a period for each array that is missing, not expected or different.

    Arrays are compared by their paths, so that a named tuple is like a dictionary with the same names.

    Args:
        want: the tree that is needed, of arrays, `jax.ShapeDtypeStruct`s or `AnyArray`s.
        have: the tree that was passed, of arrays, of numbers, or of anything else with a shape and a
            dtype, such as the metadata of a checkpoint.
    """
    wanted, given = dict(leaf_items(unboxed(want))), dict(leaf_items(unboxed(have)))
    found: list[str] = []
    for path, x in wanted.items():
        name = f"`{path or '.'}`"
        if path not in given:
            found.append(f"{name} is missing{_in_parentheses(x)}")
        elif problem := _different(x, given[path]):
            found.append(f"{name} {problem}")
    for path, x in given.items():
        if path not in wanted:
            found.append(f"`{path or '.'}` is not expected{_in_parentheses(x)}")
    return found


def listed(lines: list[str], most: int = 20) -> str:
    """The lines as a list with a dash before each, and the number of lines beyond the first `most`."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return "".join(f"\n  - {line}" for line in lines[:most] + more)


def not_a_state(tx: Any, found: list[str]) -> str:
    """The message about a state that is not one of `tx`, from what `differences` found."""
    remedy = (
        "Make the state with `init`, from the parameters that it is used with, or carry the old state "
        "over with `gradtx.migrate(state, tx, params)`."
    )
    if not found:
        found = ["the arrays are right, but their containers are not, such as a list for a tuple"]
        remedy = (
            "A checkpoint that is restored without a target has lists and dictionaries. Pass "
            "`jax.eval_shape(tx.init, params)` as the target."
        )
    return (
        f"The state is not one that `init` of `{tx}` makes for these parameters:{listed(found)}\n"
        f"{remedy}"
    )


def _different(want: Any, have: Any) -> str:
    """What is wrong with one array, or an empty string."""
    if isinstance(want, AnyArray):
        return ""
    shape, dtype = _shape(have), getattr(have, "dtype", want.dtype)
    if shape != want.shape and dtype != want.dtype:
        return f"is {_kind(have)} instead of {_kind(want)}"
    if shape != want.shape:
        return f"has shape {shape} instead of {want.shape}"
    return f"has dtype {dtype} instead of {want.dtype}" if dtype != want.dtype else ""


def _in_parentheses(x: Any) -> str:
    kind = _kind(x)
    return f" ({kind})" if kind else ""


def _kind(x: Any) -> str:
    """The dtype and the shape of an array, such as `float32[2, 3]`."""
    dtype = getattr(x, "dtype", None)
    return "" if dtype is None else f"{dtype}{list(_shape(x))}"


def _shape(x: Any) -> tuple[int, ...]:
    shape = getattr(x, "shape", None)
    return np.shape(x) if shape is None else tuple(shape)


def unknown_like(tree: PyTree) -> PyTree:
    """The tree with an `AnyArray` in place of every leaf."""
    return jax.tree.map(lambda _: AnyArray(), tree)

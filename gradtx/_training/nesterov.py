"""The two sequences of parameters in Nesterov's method, and how to get from one to the other.

Nesterov's method knows the iterates theta, and the look-ahead points phi, at which gradients are taken:

    phi = theta + L(b m)

Here m is the momentum, b its decay, and L the linear map by which the links after the momentum turn it
into updates: L = -eta if the learning rate comes after the momentum, and L = 1 if it comes before.

There are two ways to run the method. With `nesterov=True` the parameters are phi, so that the gradients
need no extra step, and `eval_params` goes back to theta. With `nesterov=False` the parameters are theta,
and `lookahead_params` goes ahead to phi. Both functions use the learning rate and the decay of the next
step. The two ways give the same iterates if the learning rate is constant or comes before the momentum.
With a schedule that comes after the momentum the iterates differ.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from optax import MaskedNode

from gradtx._compose.chain import chain, identity
from gradtx._compose.fanout import constant, fanout
from gradtx._compose.partition import masked, partition
from gradtx._compose.recipe import Recipe
from gradtx._compose.wrapper import Wrapper
from gradtx._core.dtypes import compute_dtype
from gradtx._core.schedule import at_step
from gradtx._core.trees import PyTree, is_inexact, is_none, tree_map
from gradtx._training.apply import apply_updates
from gradtx._transforms.decay import decoupled_weight_decay
from gradtx._transforms.freeze import freeze
from gradtx._transforms.moments import scale_by_momentum
from gradtx._transforms.scale import scale, scale_by_learning_rate


class NotLinear(TypeError):
    """A momentum that does not reach the updates through linear transformations."""


def shift_of(tx: Any, state: Any, nesterov: bool) -> PyTree:
    """The shift $L(b\\, m)$ of a transformation, or None if it has no momentum of this kind.

    Args:
        tx: the transformation.
        state: its state, as a composition keeps it (`states.plain_state`).
        nesterov: whether the momentum in question is one with `nesterov=True`.

    Raises:
        TypeError: if the momentum does not reach the updates through linear transformations. For a
            momentum with `nesterov=True` the result is None instead, or lacks the group of parameters
            for which this is so.
    """
    try:
        return _shift(tx, state, None, nesterov)
    except NotLinear:
        if nesterov:
            return None
        raise


def moved(leaves: list[Any], shifts: list[Any], sign: float) -> list[Any]:
    """The parameters plus or minus their shifts; a parameter without a shift is unchanged."""
    return [
        x if not hasattr(d, "dtype") or not is_inexact(x) else apply_updates(x, sign * d)
        for x, d in zip(leaves, shifts, strict=True)
    ]


@functools.singledispatch
def _shift(tx: Any, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    """The shift $L(b\\, m)$ after the transformation `tx`.

    Args:
        tx: a transformation.
        state: its state, as a composition keeps it: recipes in it have not named their states.
        shift: the shift before `tx`, or None if no momentum has come yet.
        nesterov: whether the momentum in question is one with `nesterov=True`.
    """
    scheduled = tx.scheduled
    if scheduled and not hasattr(state, "step"):
        return _shift(tx.at(state.count), state.inner, shift, nesterov)
    if shift is None and not _has_momentum(tx, nesterov):
        return None
    raise NotLinear(
        "The look-ahead point is known only if the momentum reaches the updates through linear "
        f"transformations, and not through `{tx}`."
    )


def _has_momentum(tx: Any, nesterov: bool) -> bool:
    if isinstance(tx, scale_by_momentum):
        return tx.nesterov == nesterov
    return any(_has_momentum(child, nesterov) for child in tx.children)


@_shift.register
def _(tx: Recipe, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    return _shift(tx.children[0], state, shift, nesterov)


@_shift.register
def _(tx: scale_by_momentum, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    if tx.nesterov != nesterov or callable(tx.decay):
        return _shift.dispatch(object)(tx, state, shift, nesterov)
    if shift is not None:
        raise NotLinear(
            f"The look-ahead point is known for one momentum only, and `{tx}` follows another momentum."
        )
    return _times(tx.decay, state[0])


@_shift.register
def _(tx: chain, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    for link, inner in zip(tx.links, state, strict=True):
        shift = _shift(link, inner, shift, nesterov)
    return shift


@_shift.register
def _(tx: fanout, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    if tx.combine not in ("add", "subtract"):
        return _shift.dispatch(object)(tx, state, shift, nesterov)
    total = None
    for i, (branch, inner) in enumerate(zip(tx.terms, state, strict=True)):
        own = _shift(branch, inner, shift, nesterov)
        own = _times(-1.0, own) if tx.combine == "subtract" and i and own is not None else own
        total = own if total is None else total if own is None else _sum(total, own)
    return total


@_shift.register
def _(tx: partition, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    found = [
        shift_of(group, state.inner_states[label].inner_state, nesterov)
        for label, group in tx.transforms.items()
    ]
    return _alone(tx, shift, [x for x in found if x is not None])


@_shift.register
def _(tx: masked, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    inner = shift_of(tx.inner, state.inner_state, nesterov)
    return _alone(tx, shift, [] if inner is None else [inner])


def _alone(tx: Any, shift: PyTree, found: list[PyTree]) -> PyTree:
    """The shifts of several groups of leaves as one tree, if no momentum comes before the groups."""
    if shift is not None:
        return _shift.dispatch(object)(tx, None, shift, True)
    if not found:
        return None
    return functools.reduce(_sum, found)


@_shift.register
def _(tx: Wrapper, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    if not tx.keeps_updates:
        return _shift.dispatch(object)(tx, state, shift, nesterov)
    return _shift(*tx.inner_of(state), shift, nesterov)


@_shift.register
def _(tx: scale, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    if callable(tx.step_size):
        return _shift.dispatch(object)(tx, state, shift, nesterov)
    return shift if shift is None else _times(tx.step_size, shift)


@_shift.register
def _(tx: scale_by_learning_rate, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    rate = at_step(tx.learning_rate, state.step)
    return shift if shift is None else _times(-rate if tx.flip_sign else rate, shift)


@_shift.register
def _(tx: decoupled_weight_decay, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    return shift  # adds a multiple of the parameters, and does not change the part of the momentum


@_shift.register
def _(tx: freeze, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    return None if tx.mask is None else _shift.dispatch(object)(tx, state, shift, nesterov)


@_shift.register
def _(tx: identity, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    return shift


@_shift.register
def _(tx: constant, state: Any, shift: PyTree, nesterov: bool) -> PyTree:
    return None


def _times(factor: Any, tree: PyTree) -> PyTree:
    wide = tree_map(lambda x: x.astype(compute_dtype(x)), tree)
    return tree_map(lambda x: jnp.asarray(factor).astype(x.dtype) * x, wide)


def _sum(a: PyTree, b: PyTree) -> PyTree:
    def total(x: Any, y: Any) -> Any:
        if hasattr(x, "dtype") and hasattr(y, "dtype"):
            return x + y
        return x if hasattr(x, "dtype") else y

    return jax.tree.map(total, a, b, is_leaf=lambda x: is_none(x) or isinstance(x, MaskedNode))

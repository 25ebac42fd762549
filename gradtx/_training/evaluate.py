"""The parameters to evaluate with: an average, the iterates of Nesterov's method, or the parameters.

A transformation that keeps parameters to evaluate with defines `eval_tree(params, state)`
(`_compose/iterates.py`). It may lie anywhere inside an optimizer, so the optimizer is lowered once more,
and what is lowered is recorded together with its state.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike

from gradtx._compose.iterates import evaluates, has_iterate
from gradtx._core.boundary import as_param
from gradtx._core.dtypes import compute_dtype, promote
from gradtx._core.foreign import as_transform
from gradtx._core.function_arguments import check_arguments
from gradtx._core.places import numbered
from gradtx._core.program import Program
from gradtx._core.schedule import ScheduledState
from gradtx._core.terms import Visit
from gradtx._core.transform import Transform
from gradtx._core.trees import PyTree, Structure, boxed_like, flatten, unboxed
from gradtx._training.nesterov import moved, shift_of
from gradtx._training.nnx import is_nnx_module, with_params
from gradtx._training.states import plain_state


def eval_params(
    tx: optax.GradientTransformation, params: PyTree, state: Any, *, dtype: DTypeLike | None = None
) -> PyTree:
    r"""The parameters to evaluate with, for any optimizer.

    If `tx` keeps parameters of its own to evaluate with, the result is these: the average of `averaged`
    and of `schedule_free`, the slow parameters of `outer`, the iterates of `ema_nesterov`. If it has a
    momentum with `nesterov=True`, the trained parameters are the look-ahead points $\varphi$ at which
    gradients are taken, and the result is the iterates of Nesterov's method,

    $$ \theta = \varphi - L(b\, m) $$

    where $m$ is the momentum, $b$ its decay, and $L$ the linear map by which the links after the
    momentum turn it into updates (for a learning rate, $L = -\eta$). If a transformation after the
    momentum is not linear, as in `muon`, these iterates are not known. Then, and for all other
    optimizers, the result is the parameters themselves.

    The optimizer may contain the average or the momentum at any depth: in chains, partitions, masks,
    wrappers and recipes. Parameters that are not averaged are returned unchanged. The result may
    share arrays with `params` and `state`, so evaluate before a step that donates these, or copy it.

    Args:
        tx: the optimizer.
        params: the parameters that `tx` has trained, or an Equinox model, or a Flax NNX model. Of a
            model the result is a copy: `eval_params(optimizer.tx, model, optimizer.opt_state)`.
        state: the state of `tx`.
        dtype: the dtype of the result. None means the dtype of every parameter.

    Raises:
        ValueError: if `params` is None, or if `state` is not a state of `tx`.
        TypeError: if `tx` is not a transformation.

    Source: for Nesterov's method, Sutskever et al., 2013, eq. 3-4.

    >>> import gradtx, jax.numpy as jnp
    >>> tx = gradtx.averaged(gradtx.sgd(1.0), gradtx.mean_weight())
    >>> params, state = jnp.zeros(()), tx.init(jnp.zeros(()))
    >>> for gradient in (1.0, 1.0, 4.0):
    ...     u, state = tx.update(jnp.full((), gradient), state, params)
    ...     params = gradtx.apply_updates(params, u)
    >>> float(params), float(gradtx.eval_params(tx, params, state))
    (-6.0, -3.0)
    """
    check_arguments(eval_params, locals())
    own = as_transform(tx, "eval_params(tx=...)")
    if params is None:
        raise ValueError(
            "`eval_params(params=None)`: pass the trained parameters, `eval_params(tx, params, state)`. "
            "They say which leaves there are, and in which dtypes, and those that are not averaged are "
            "returned unchanged."
        )
    if is_nnx_module(params):
        return with_params(params, lambda x: eval_params(tx, x, state, dtype=dtype))
    given, params, state = params, unboxed(params), unboxed(state)
    leaves, structure = flatten(params)
    owned = [as_param(p) for p in leaves]
    plain = plain_state("eval_params", own, own.program(owned, structure), state)
    found = _found(own, owned, structure, state)
    out = leaves
    if any(new is None for new, p in zip(found, owned, strict=True) if p is not None):
        shift = shift_of(own, plain, nesterov=True)
        if shift is not None:
            out = moved(leaves, structure.flatten_up_to(shift), -1.0)
    new = [x if f is None else f for x, f in zip(out, found, strict=True)]
    cast = [x if p is None else _cast(x, p, dtype) for x, p in zip(new, owned, strict=True)]
    return boxed_like(structure.unflatten(cast), given)


def _cast(x: Any, param: jax.Array, dtype: Any) -> jax.Array:
    """`x` in a dtype, or in that of its parameter if `dtype` is None; a complex array stays complex."""
    wanted = param.dtype if dtype is None else jnp.dtype(dtype)
    if jnp.issubdtype(param.dtype, jnp.complexfloating):
        wanted = promote(wanted, jnp.complex64)
    return x if getattr(x, "dtype", None) == wanted else jnp.asarray(x).astype(wanted)


def _found(tx: Transform, owned: list[Any], structure: Structure, state: Any) -> list[Any]:
    """For every leaf what a transformation inside `tx` evaluates it with, and None if there is none.

    Args:
        tx: the transformation.
        owned: the parameters, with None in place of every leaf that is not optimized.
        structure: the structure of the parameters.
        state: the state of `tx`.
    """
    found: list[Any] = [None] * len(owned)
    if not has_iterate(tx):
        return found
    root = Visit(None, [], [])
    shapes = [None if p is None else jax.ShapeDtypeStruct(p.shape, p.dtype) for p in owned]
    program = Program(tx, shapes, structure, root)
    cells = dict(zip(program.numbers, program.layout.flatten_up_to(state), strict=True))
    for visit in _outermost(root.inside[0]):
        numbers, layout = numbered(visit.state, structure, program.lowering.merged, public=True)
        own = layout.unflatten([cells[number] for number in numbers])
        params = [None if term is None else p for term, p in zip(visit.stream, owned, strict=True)]
        for i, new in enumerate(_of_one(visit.tx, params, structure, own)):
            found[i] = new if new is not None else found[i]
    return found


def _outermost(visit: Visit) -> list[Visit]:
    """The outermost visits of transformations that evaluate, or that have to be looked into."""
    tx = visit.tx
    if not has_iterate(tx):
        return []
    if evaluates(tx) or hasattr(tx, "inner_at") or not visit.inside:
        return [visit]
    return [found for inside in visit.inside for found in _outermost(inside)]


def _of_one(tx: Any, params: list[Any], structure: Structure, state: Any) -> list[Any]:
    """For every leaf what this transformation, or the one inside it, evaluates it with."""
    if not evaluates(tx):
        if hasattr(tx, "inner_params"):
            trained = tx.inner_params(structure.unflatten(params), state)
            params = structure.flatten_up_to(trained)
        inner, state = tx.inner_of(state)
        return _found(inner, params, structure, state)
    if isinstance(state, ScheduledState) and tx.scheduled:
        tx, state = tx.at(state.count), state.inner
    wide = [None if p is None else p.astype(compute_dtype(p)) for p in params]
    new = structure.flatten_up_to(tx.eval_tree(structure.unflatten(wide), state))
    return [x if hasattr(x, "dtype") else None for x in new]

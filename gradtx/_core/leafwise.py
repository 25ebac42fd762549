"""The pass over a tree: how a transformation written for one array is mapped over the leaves, once.

One jitted function serves every leaf of the same shape and dtype. Called inside another `jit` it is
traced and lowered once and then only called (XLA inlines the calls, so fusion is as if written out);
called eagerly it is one dispatch a leaf.
"""

import functools
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradtx._core.dtypes import cast, cast_floating, compute_dtype, like
from gradtx._core.trees import PyTree, Structure, flatten, is_none, paths


@jax.tree_util.register_pytree_node_class
class _Split:
    """A transformation whose Python numbers are structure, so that they keep their float64 value at
    trace time, and whose arrays are leaves. Equal numbers give equal structure: no retrace."""

    def __init__(self, tx: Any) -> None:
        leaves, structure = jax.tree.flatten(tx)
        self.arrays = [x for x in leaves if not isinstance(x, float)]
        self.key = structure, tuple(x if isinstance(x, float) else None for x in leaves)

    def join(self, dtype: Any = None) -> Any:
        arrays = iter(self.arrays if dtype is None else cast_floating(self.arrays, dtype))
        structure, numbers = self.key
        return structure.unflatten([next(arrays) if n is None else n for n in numbers])

    def tree_flatten(self) -> tuple[list[Any], Any]:
        return self.arrays, self.key

    @classmethod
    def tree_unflatten(cls, key: Any, arrays: Any) -> "_Split":
        self = object.__new__(cls)
        self.arrays, self.key = list(arrays), key
        return self


def init_elementwise(work: Any, params: PyTree) -> Any:
    """The state of `work` for a tree of parameters, field-major."""
    leaves, structure = flatten(params)
    layout = _layout(_Split(work).key, _first_shape(leaves))
    # Not under jit: `full_like` of a committed array keeps its sharding, a traced constant loses it.
    states = [layout.flatten_up_to(work.init_leaf(p)) if p is not None else None for p in leaves]
    none = [None] * layout.num_leaves
    fields = (
        zip(*(none if s is None else s for s in states), strict=True)
        if states
        else [()] * len(none)
    )
    arrays = layout.unflatten([structure.unflatten(field) for field in fields])
    shared = work.init_shared()
    scalars = jax.tree.map(jnp.asarray, shared)
    return _merge(shared, scalars, arrays)


def update_elementwise(
    work: Any, updates: PyTree, state: Any, params: PyTree, extra: dict[str, Any]
) -> tuple[PyTree, Any]:
    """One step of `work` on a tree: shared work once, then one pass over the leaves."""
    gradients, structure = flatten(updates)
    owners = [None] * len(gradients) if params is None else structure.flatten_up_to(params)
    layout = _layout(_Split(work).key, _first_shape(gradients))
    template = work.init_shared()
    scalars = _pick(template, state, shared=True)
    arrays = _pick(template, state, shared=False)
    look = work.look(updates, params, extra) if work.looks else None
    if jax.tree.leaves(template) or look is not None:
        scalars = jax.tree.map(lambda t, s: cast(jnp.asarray(s), t.dtype), template, scalars)
        scalars, acting = _advance(_Split(work), scalars, look)
    else:
        acting = _Split(work)
    variants = _variants(acting, work.marks(updates if params is None else params), len(gradients))
    fields = [structure.flatten_up_to(field) for field in layout.flatten_up_to(arrays)]
    columns = list(zip(*fields, strict=True)) if fields else [()] * len(gradients)
    out = list(gradients)
    for i, (g, p) in enumerate(zip(gradients, owners, strict=True)):
        if g is None:
            continue
        try:
            out[i], columns[i] = _update_leaf(variants[i], g, columns[i], p, layout)
        except Exception as error:
            error.add_note(f"This is the leaf `{paths(updates)[i] or '.'}`, of shape {g.shape}.")
            raise
    fields = zip(*columns, strict=True) if columns else [()] * layout.num_leaves
    arrays = layout.unflatten([structure.unflatten(field) for field in fields])
    return structure.unflatten(out), _merge(template, scalars, arrays)


@jax.jit
def _advance(split: _Split, shared: Any, look: Any) -> tuple[Any, _Split]:
    new, acting = split.join().advance(shared, look)
    return like(new, shared), _Split(acting)


@functools.partial(jax.jit, static_argnames="layout")
def _update_leaf(
    split: _Split, g: jax.Array, state: tuple[Any, ...], p: Any, layout: Structure
) -> tuple[jax.Array, tuple[Any, ...]]:
    """The one function that every leaf goes through, where its dtype is decided.

    State crosses the border as a flat tuple: eagerly, NamedTuples would cost a tenth of the step.
    """
    dtype = compute_dtype(g, p)
    tx = split.join(dtype)
    wide = g.astype(dtype)
    param = None if p is None else p.astype(dtype)
    # A complex leaf mixes with its real second moment on purpose; a real one has nothing to promote.
    mixed = jax.numpy_dtype_promotion("standard") if jnp.iscomplexobj(g) else nullcontext()
    with mixed:
        update, new = tx.update_leaf(wide, layout.unflatten(cast_floating(state, dtype)), param)
    if jax.tree.structure(new) != layout:
        raise TypeError(
            f"`update_leaf` of `{tx}` returned a state of structure {jax.tree.structure(new)}; "
            f"`init_leaf` made {layout}."
        )
    results = tuple(jax.tree.leaves(new))
    fits = np.broadcast_shapes(jnp.shape(update), g.shape) == g.shape
    if not fits or any(n.shape != s.shape for n, s in zip(results, state, strict=True)):
        raise ValueError(
            f"A gradient of shape {g.shape} does not fit the state that `{tx}` made for its leaf, of "
            f"shape {', '.join(str(s.shape) for s in state)}."
        )
    return jnp.broadcast_to(update, g.shape).astype(dtype), like(results, state)


def _first_shape(leaves: list[Any]) -> tuple[int, ...]:
    return next((np.shape(x) for x in leaves if x is not None), (1, 1))  # of none, any will do


@functools.lru_cache(maxsize=4096)
def _layout(key: Any, shape: tuple[int, ...]) -> Structure:
    """The structure of one leaf's state, which is that of all: found by an abstract `init_leaf`."""
    structure, numbers = key
    # What an array among the hyperparameters holds does not decide the structure: 1.0 stands for it.
    tx = structure.unflatten([1.0 if n is None else n for n in numbers])
    state = jax.eval_shape(tx.init_leaf, jax.ShapeDtypeStruct(shape, jnp.float32))
    return jax.tree.structure(state)


def _variants(acting: _Split, marks: list[Any] | None, size: int) -> list[_Split]:
    if marks is None:
        return [acting] * size
    variant = functools.cache(lambda mark: _Split(acting.join().marked(mark)))
    return [variant(mark) for mark in marks]


def _pick(template: Any, state: Any, *, shared: bool) -> Any:
    """The shared or the per-leaf part of a public state, None in place of the other."""
    return jax.tree.map(
        lambda t, s: s if (t is not None) == shared else None, template, state, is_leaf=is_none
    )


def _merge(template: Any, scalars: Any, arrays: Any) -> Any:
    """A public state from its two parts."""
    return jax.tree.map(
        lambda t, s, a: a if t is None else s, template, scalars, arrays, is_leaf=is_none
    )

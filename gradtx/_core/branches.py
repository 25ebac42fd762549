"""`choose`: one of two branches, of which only the one that is taken is computed."""

import functools
from typing import Any

import jax
from jax.core import Tracer

from gradtx._core.dtypes import like
from gradtx._core.sharding import varying_axes
from gradtx._core.varying import axes_of, over


def choose(condition: jax.Array | bool, yes: Any, no: Any) -> Any:
    """`yes()` if a boolean scalar is true and `no()` else; both return trees of the same structure.

    The arrays that `yes` returns get the dtypes of those of `no`. Inside `shard_map` the results vary
    over the mesh axes over which one of the two varies.
    """
    if not isinstance(condition, Tracer):
        return yes() if condition else no()  # an un-jitted `cond` would compile at every step

    def right() -> Any:
        return like(yes(), no())

    own = varying_axes(condition)
    if not own and not _inside_shard_map():
        return jax.lax.cond(condition, right, no)
    one, other = jax.eval_shape(right), jax.eval_shape(no)
    pairs = zip(*map(jax.tree.leaves, (one, other)), strict=True)
    axes = [axes_of(a) | axes_of(b) | own for a, b in pairs]

    def varying(f: Any) -> Any:
        leaves, structure = jax.tree.flatten(f())
        return structure.unflatten([over(x, a) for x, a in zip(leaves, axes, strict=True)])

    return jax.lax.cond(
        condition, functools.partial(varying, right), functools.partial(varying, no)
    )


def _inside_shard_map() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return bool(mesh.manual_axes)

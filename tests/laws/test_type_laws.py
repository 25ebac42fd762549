"""The laws of types: a state keeps its types, and accumulates in float32 at least."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import SMALL, tree, types

import gradtx

FLOATS = ("float32", "bfloat16", "float16")


def check_types(tx, pairs, shapes=SMALL):
    """Hold updates and states against the type law, for parameters and gradients of these dtypes.

    All pairs of dtypes are subtrees of one tree: what is asserted is asserted of every leaf.
    """

    def scanned(params, gradients):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(gradients, state, params)
            return (gradtx.apply_updates(params, updates), state), updates

        # `scan` raises a TypeError where structure, shape, dtype or weak type of the carry change.
        return jax.lax.scan(body, (params, tx.init(params)), length=3)

    names = [" ".join(pair) for pair in pairs]
    params, gradients = (
        {name: tree(pair[i], shapes=shapes) for name, pair in zip(names, pairs, strict=True)}
        for i in (0, 1)
    )
    (after, _), updates = jax.eval_shape(scanned, params, gradients)
    assert types(after) == types(params)
    for name, pair in zip(names, pairs, strict=True):
        with jax.numpy_dtype_promotion("standard"):
            want = jnp.promote_types(*pair)
            if tx.wide_updates:
                want = jnp.promote_types(want, jnp.float32)  # a narrower update would lose the copy
        assert {u.dtype for u in jax.tree.leaves(updates[name])} == {want}


def test_state_keeps_its_type_for_every_pair_of_dtypes(row):
    tx = row.make()
    check_types(tx, [*itertools.product(FLOATS, FLOATS), ("complex64", "complex64")])
    check_types(tx, [("bfloat16", "float32")], zoo.SHAPES)


@pytest.mark.representatives
def test_state_keeps_its_type_in_x64(row):
    with jax.enable_x64(True):
        tx = row.make()
        check_types(tx, [("float32", "float32")])
        wide = itertools.product(("float64",), ("float64", "float32", "bfloat16"))
        check_types(tx, [*wide, ("float32", "float64"), ("complex128", "complex128")])


def test_weak_types_and_python_numbers_become_strong(row):
    tx = row.make()

    def one_step(params):
        state = tx.init(params)
        return state, *tx.update(jax.tree.map(lambda p: p * 0.5, params), state, params)

    for params in ({"a": jnp.asarray(1.0), "b": jnp.ones(3)}, {"a": 1.0, "b": np.ones(3)}):
        state, updates, after = jax.eval_shape(lambda params=params: one_step(params))
        assert types(state) == types(after)
        assert not any(x.weak_type for x in jax.tree.leaves((state, updates)))
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


def test_accumulates_in_float32_at_least(row):
    tx = row.make()
    for dtype in ("bfloat16", "float16"):
        state = jax.eval_shape(tx.init, tree(dtype))
        wide = {"float32", "int32", "uint32", "bool"}
        narrow = {x.dtype.name for x in jax.tree.leaves(state)} - wide
        asked = {"bfloat16"} if "_dtype='bfloat16'" in row.code else set()
        kept = "stored" in row.code or "compensated" in row.code
        asked |= {"uint8", "int8", "bfloat16"} if kept else set()
        assert narrow <= asked

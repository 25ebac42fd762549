"""The laws of numbers that have a tolerance: one result for all ways to run, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import SMALL, nudged, train, tree

import gradtx


def close(got, want, roundings):
    """Whether two trees agree, leaf by leaf, within roundings of the largest entry of the leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        eps = float(jnp.finfo(x.dtype).eps) if jnp.issubdtype(x.dtype, jnp.inexact) else 0.0
        wide = "complex128" if jnp.iscomplexobj(x) else "float64"
        x, y = (np.asarray(z).astype(wide) for z in (x, y))
        np.testing.assert_allclose(x, y, rtol=0, atol=roundings * eps * np.abs(y).max(initial=0.0))


def roundings(row):
    """How many roundings of the largest entry two ways to compile two steps of a row may differ by.

    An elementwise step has at most sixteen operations, and each may be rounded once less where it is
    fused into a multiplication with an addition. Newton and Schulz's iteration enlarges a difference
    in a small singular value by its first coefficients, which together stay below 4**3.
    """
    iterates = any(name in row.code for name in ("orthogonalize", "muon", "scion"))
    return 16 * (64 if iterates else 1)


# --- The same numbers in every way to run ---------------------------------------------------------

# A matrix, stacked ones and a vector, in three dtypes.
MIXED = {
    "float32": {"kernel": (2, 3), "stack": (2, 3, 2)},
    "bfloat16": {"bias": (3,)},
    "complex64": {"kernel": (2, 3)},
}


def mixed(seed):
    """A tree of normal numbers in three dtypes."""
    return {dtype: tree(dtype, seed, shapes) for dtype, shapes in MIXED.items()}


@pytest.mark.representatives
def test_donated_jitted_steps_equal_eager_ones(row):
    """A step also uses all memory that was donated to it: `jit` drops an argument that nothing reads. A
    basis of low rank that is computed anew in each step does not read the one before it."""
    tx = row.make()

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    donated = jax.jit(step, donate_argnums=(0, 1))
    eager, compiled = ((mixed(0), tx.init(mixed(0))) for _ in range(2))
    for seed in (1, 2):
        before, eager = compiled, step(*eager, mixed(seed))
        compiled = donated(*before, mixed(seed))
        places = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(compiled) if x.size}
        unused = [x for x in jax.tree.leaves(before) if x.size and not x.is_deleted()]
        unused = [
            x for x in unused if x.unsafe_buffer_pointer() not in places
        ]  # or passed on as it is
        assert not unused or "low_rank(1, every=1)" in str(row)
    close(compiled, eager, roundings(row))


@pytest.mark.representatives
def test_sweeps_by_vmap_as_by_a_loop_and_compiles_once_for_all_numbers(row):
    traces = []

    def final(tx):
        traces.append(tx)
        return train(tx, tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2)])

    txs = [nudged(row.make(), factor) for factor in (1.0, 0.75, 0.5)]
    one_by_one = [final(tx) for tx in txs]
    traces.clear()
    jitted = jax.jit(final)
    for tx in txs:
        jitted.trace(tx)  # not called: what is looked at is there before it compiles
    assert len(traces) == 1
    batch = gradtx.stack(txs)
    if not any(map(np.ndim, jax.tree.leaves(batch))):
        return  # the row has no hyperparameter to sweep
    swept = jax.jit(jax.vmap(final, in_axes=(gradtx.axes(batch),)))(batch)
    close(swept, jax.tree.map(lambda *xs: jnp.stack(xs), *one_by_one), roundings(row))


@pytest.mark.others
def test_is_traced_in_a_sweep_and_in_a_derivative_and_once_for_all_numbers(row):
    """What the other recipes are held to: their steps are traced, and no program is compiled."""
    traces = []

    def loss(tx):
        traces.append(tx)
        params, _ = train(tx, tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2)])
        return sum(jnp.sum(jnp.abs(x) ** 2) for x in jax.tree.leaves(params))

    tx = row.make()
    txs = [nudged(tx, factor) for factor in (1.0, 0.75, 0.5)]
    jitted = jax.jit(loss)
    assert {jitted.trace(x).out_info.shape for x in txs} == {()}
    assert len(traces) == 1
    batch = gradtx.stack(txs)
    if any(map(np.ndim, jax.tree.leaves(batch))):
        each = jax.vmap(jax.value_and_grad(loss), in_axes=(gradtx.axes(batch),))
        values, slopes = jax.eval_shape(each, batch)
        assert values.shape == (3,)
        assert jax.tree.structure(slopes) == jax.tree.structure(batch)


# --- Derivatives ----------------------------------------------------------------------------------


@pytest.mark.representatives
def test_is_differentiated_and_agrees_with_a_finite_difference(row):
    @jax.jit
    @jax.value_and_grad
    def loss(tx, size):
        params, target = (tree("float64", seed, {"kernel": SMALL["kernel"]}) for seed in (0, 1))
        state = tx.init(params)
        for _ in range(2):
            g = jax.tree.map(lambda p, t: size * (p - t), params, target)
            updates, state = tx.update(g, state, params)
            params = gradtx.apply_updates(params, updates)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    with jax.enable_x64(True):
        tx = row.make()
        # A zero gradient is tried too, where a square root has no slope.
        _, still = loss(tx, 0.0)
        _, moved = loss(tx, 1.0)
        assert jax.tree.structure(moved) == jax.tree.structure(tx)
        assert np.all(np.isfinite(jax.tree.leaves((moved, still) if row.smooth else moved)))
        if "_dtype='bfloat16'" in row.code:
            return  # a function that rounds has no difference quotient
        along = sum(x * d for x, d in zip(*map(jax.tree.leaves, (tx, moved)), strict=True))
        (above, _), (below, _) = (loss(nudged(tx, 1 + sign * 1e-6), 1.0) for sign in (1, -1))
        # The quotient is off by its step squared, and by the rounding of the loss over its step.
        np.testing.assert_allclose(along, (above - below) / 2e-6, rtol=1e-5, atol=1e-7)

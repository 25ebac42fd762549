"""`skip_nonfinite` and `check`: what a bad step leaves unchanged, what is counted, and giving up."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from zoo import GRADIENT, PARAMS, exactly, types

import gradtx
from gradtx import adam, adamw, apply_if_finite, chain, skip_nonfinite

BAD = [np.nan, np.inf, -np.inf]


def bad(value=np.nan):
    """Gradients with one entry that is not finite."""
    return GRADIENT | {"bias": GRADIENT["bias"].at[1].set(value)}


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("tx", [adam(0.1), chain(gradtx.clip(1.0), adamw(0.1)), optax.adam(0.1)])
def test_one_bad_entry_skips_the_whole_step_and_nothing_changes_a_bit(tx):
    tx = skip_nonfinite(tx)
    params = PARAMS | {"bias": jnp.array([0.0, -0.0, 1.0])}
    for step in (tx.update, jax.jit(tx.update)):
        _, state = step(GRADIENT, tx.init(params), params)
        for count, value in enumerate(BAD, 1):
            updates, new = step(bad(value), state, params)
            assert bits(gradtx.apply_updates(params, updates)) == bits(params)
            assert bits(new.inner_state) == bits(state.inner_state) and types(new) == types(state)
            assert new.notfinite_count == new.total_notfinite == count and not new.last_finite
            state = new
        # The next good step is the one that would have come without the bad steps.
        got, new = step(GRADIENT, state, params)
        _, alone = tx.inner.update(GRADIENT, tx.inner.init(params), params)
        want, _ = tx.inner.update(GRADIENT, alone, params)
        # A compiled step is rounded in other places than an un-jitted one.
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, want)
        assert new.notfinite_count == 0 and new.total_notfinite == 3 and new.last_finite
        assert gradtx.readings(new)["total_notfinite"] == 3


def test_a_scan_skips_like_a_loop_and_a_sweep_skips_each_member_alone():
    gradients = jax.tree.map(lambda *xs: jnp.stack(xs), GRADIENT, bad(), GRADIENT, bad(np.inf))

    def train(tx, factor: Any = 1.0):
        body = lambda state, g: tx.update(jax.tree.map(lambda x: factor * x, g), state)[::-1]
        return jax.lax.scan(body, tx.init(PARAMS), gradients)

    state, updates = train(skip_nonfinite(adam(0.1)))
    assert state.total_notfinite == 2 and state.notfinite_count == 1
    assert np.all(updates["bias"][1::2] == 0) and np.all(updates["bias"][::2] != 0)
    both = jax.vmap(functools.partial(train, skip_nonfinite(adam(0.1))))(jnp.array([1.0, np.nan]))[
        0
    ]
    assert both.total_notfinite.tolist() == [2, 4]


def test_gives_up_loudly_and_stays_so():
    tx = skip_nonfinite(adam(0.1), max_consecutive=2)
    state: Any = tx.init(PARAMS)
    updates: Any = None
    for step, given_up in enumerate([False, False, True]):
        updates, state = tx.update(bad(), state)
        assert bool(state.gave_up) is given_up, step
        if not given_up:
            gradtx.check(state)
    assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
    _, state = tx.update(GRADIENT, state)
    assert state.gave_up and state.notfinite_count == 0
    with pytest.raises(FloatingPointError, match=r"given up at `1` of its state.*3 in total"):
        gradtx.check((optax.EmptyState(), state))
    batch = jax.tree.map(lambda a, b: jnp.stack([a, b]), tx.init(PARAMS), state)
    with pytest.raises(FloatingPointError, match=r"in the members \[1\] of the batch"):
        gradtx.check(batch)
    inside = skip_nonfinite(adam(0.1)).init(PARAMS)._replace(inner_state=state)
    with pytest.raises(FloatingPointError, match="given up"):
        gradtx.check(inside)
    with pytest.raises(TypeError, match=r"outside of `jax.jit`"):
        jax.jit(gradtx.check)(state)
    gradtx.check(adam(0.1).init(PARAMS))


def test_the_numbers_of_apply_if_finite_are_those_of_optax():
    given = [GRADIENT, bad(), bad(), bad(), GRADIENT]
    ours, optax_ = apply_if_finite(gradtx.sgd(0.1), 2), optax.apply_if_finite(optax.sgd(0.1), 2)
    state: Any = ours.init(PARAMS)
    other: Any = optax_.init(PARAMS)
    assert state._fields[:4] == other._fields
    for g in given:
        updates, state = ours.update(g, state)
        with jax.numpy_dtype_promotion("standard"):
            want, other = optax_.update(g, other)
        exactly(updates, want)
        exactly(state[:3], other[:3])
    assert state.gave_up


def test_all_devices_skip_the_same_steps():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    tx = skip_nonfinite(adam(0.1), axis_name="d")
    specs = {"kernel": P("d"), "bias": P()}
    place = lambda tree: jax.tree.map(
        lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), tree, specs
    )
    good, one_bad = GRADIENT, GRADIENT | {"kernel": GRADIENT["kernel"].at[1, 2].set(np.nan)}

    def train(params, *gradients):
        state = tx.init(params)
        body = lambda state, g: tx.update(g, state, params)[::-1]
        stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *gradients)
        state, updates = jax.lax.scan(body, state, stacked)
        # The counters are replicated although one shard alone is bad.
        return updates, state.total_notfinite, state.inner_state[0].count

    stacked = {"kernel": P(None, "d"), "bias": P()}
    mapped = jax.shard_map(train, mesh=mesh, in_specs=(specs,) * 4, out_specs=(stacked, P(), P()))
    given = good, one_bad, good
    updates, total, count = jax.jit(mapped)(place(PARAMS), *map(place, given))
    assert total == 1 and count == 2
    want, other, _ = train_alone(given)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), updates, want)
    assert other == 1


def train_alone(given):
    tx = skip_nonfinite(adam(0.1))
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *given)
    body = lambda state, g: tx.update(g, state, PARAMS)[::-1]
    state, updates = jax.lax.scan(body, tx.init(PARAMS), stacked)
    return updates, state.total_notfinite, state


def test_a_huge_finite_gradient_is_not_skipped_and_arguments_are_checked():
    tx = skip_nonfinite(adam(0.1))
    huge = jax.tree.map(lambda x: jnp.full_like(x, 3e38), PARAMS)
    updates, state = tx.update(huge, tx.init(PARAMS))
    assert state.last_finite and all(np.all(x < 0) for x in jax.tree.leaves(updates))
    wrongs: list[Any] = [(-1, ValueError), (2.5, TypeError), (True, TypeError)]
    for wrong, error in wrongs:
        with pytest.raises(error, match="max_consecutive"):
            skip_nonfinite(adam(0.1), wrong)
    with pytest.raises(ValueError, match="then"):
        skip_nonfinite(adam(0.1), then="ignore")  # pyright: ignore[reportArgumentType]

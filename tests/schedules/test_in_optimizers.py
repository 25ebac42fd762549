"""Optimizers with schedules: edited, swept, traced once, and equal to Optax's schedules in a run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import adamw, replace, stack, warmup_cosine_decay_schedule

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.zeros(3)}


def rate(peak=0.1, **changes):
    return replace(warmup_cosine_decay_schedule(0.0, peak, 2, 10), **changes)


def decay():
    return gradtx.linear_schedule(0.1, 0.01, 5)


def run(tx, steps=12):
    """The parameters after some steps on a quadratic, and the learning rate of the last step."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(params, state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), gradtx.get(state, "last_learning_rate")

    (params, _), rates = jax.lax.scan(step, (PARAMS, tx.init(PARAMS)), length=steps)
    return params, rates


def test_three_rebuilds_compile_once_and_so_do_other_numbers():
    traces = []

    @jax.jit
    def train(tx):
        traces.append(1)
        return run(tx)

    same = [train(adamw(rate(), weight_decay=decay())) for _ in range(3)]
    train(adamw(rate(0.2, warmup_steps=3, decay_steps=8), weight_decay=decay()))
    assert len(traces) == 1 and train._cache_size() == 1
    for other in same[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, same[0])


def test_a_rebuilt_optimizer_that_is_static_compiles_once():
    step = jax.jit(lambda tx, p: tx.update(p, tx.init(p), p)[0], static_argnums=0)
    for _ in range(3):
        step(adamw(rate(), weight_decay=decay()), PARAMS)
    assert step._cache_size() == 1


def test_a_batch_of_optimizers_is_trained_as_each_alone():
    txs = [adamw(rate(peak, warmup_steps=n), weight_decay=decay()) for peak, n in
           ((0.1, 2), (0.2, 0), (0.3, 5))]  # fmt: skip
    batch = stack(txs)
    params, rates = jax.jit(jax.vmap(run, in_axes=(gradtx.axes(batch),)))(batch)
    at = jax.jit(run)
    for i, tx in enumerate(txs):
        alone, own = at(tx)
        close = lambda a, b, i=i: np.testing.assert_allclose(a[i], b, 1e-5, 1e-6)
        jax.tree.map(close, params, alone)
        close(rates, own)


def test_replace_finds_the_numbers_of_a_schedule():
    tx = gradtx.chain(gradtx.clip(1.0), adamw(2.0 * rate(), weight_decay=rate(0.01)))
    both = replace(tx, peak_value=0.5)
    assert repr(both).count("0.5, 2, 10") == 2
    one = replace(tx, **{"learning_rate.peak_value": 0.5})
    assert repr(one).count("0.5, 2, 10") == 1
    assert one == gradtx.chain(gradtx.clip(1.0), adamw(2.0 * rate(0.5), weight_decay=rate(0.01)))
    with pytest.raises(ValueError, match="decay_steps"):
        replace(tx, decay_steps=1)
    with pytest.raises(ValueError, match="no field `peak`"):
        replace(tx, peak=1.0)
    assert replace(adamw(0.1), learning_rate=rate()) == adamw(rate())


def test_a_number_and_a_schedule_have_one_state_for_the_learning_rate():
    state = adamw(0.1).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(adamw(rate()).init(PARAMS))


def test_trains_as_with_optaxs_schedule():
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)
    want, _ = jax.jit(lambda: run(adamw(theirs)))()
    got, rates = jax.jit(lambda: run(adamw(rate())))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), got, want)
    t = np.arange(12.0)
    cosine = 0.05 * (1 + np.cos(np.pi * np.clip((t - 2) / 8, 0, 1)))
    np.testing.assert_allclose(rates, np.where(t < 2, 0.05 * t, cosine), 0, 1e-8)


def test_a_negative_schedule_ascends():
    tx = gradtx.sgd(-gradtx.constant_schedule(0.5))
    assert tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0] == 0.5


def test_a_schedule_of_ones_own_is_a_value_with_all_operators():
    class halving(gradtx.Schedule):
        peak: gradtx.Hyper
        half_life_steps: gradtx.Hyper = 10

        def __call__(self, count):
            return self.peak * 0.5 ** (count / self.half_life_steps)

    schedule = 2 * halving(0.1)
    assert repr(schedule) == "2.0 * halving(0.1)"
    assert repr(halving(0.1, 20)) == "halving(0.1, half_life_steps=20)"
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(schedule(10), 0.1, 1e-6)
    tx = gradtx.sgd(schedule)
    assert tx == gradtx.sgd(2 * halving(0.1)) and hash(tx) == hash(gradtx.sgd(2 * halving(0.1)))
    np.testing.assert_allclose(tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0], -0.2, 1e-6)
    with pytest.raises(TypeError, match="cannot be a schedule"):
        halving(schedule)


def test_schedules_work_with_64_bits():
    with jax.enable_x64(True):
        at = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 2, 10)
        x = at(jnp.asarray(5))
        assert x.dtype == jnp.float64
        np.testing.assert_allclose(x, 0.05 * (1 + np.cos(np.pi * 3 / 8)), 1e-14)
        assert gradtx.exponential_decay(1.0, 3, 0.5, staircase=True)(jnp.asarray(2**40)) < 1e-30
        np.testing.assert_allclose(at.shift(-2)(jnp.asarray(3)), x, 1e-14)

"""`dynamic_loss_scale`: gradients of a scaled loss, and a scale that follows what float16 holds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from zoo import GRADIENT, PARAMS, same, types

import gradtx
from gradtx import adam, chain, clip_by_global_norm, dynamic_loss_scale, sgd, skip_nonfinite

INF = jnp.array([jnp.inf, 1.0], jnp.float16)
GOOD = jnp.ones(2, jnp.float16)


def scales(tx, gradients, state=None):
    """The scale after every step, the updates, and the last state."""
    params = jnp.ones(2, jnp.float16)
    state = tx.init(params) if state is None else state
    body = lambda state, g: tx.update(g, state, params)[::-1]

    def step(state, g):
        new, updates = body(state, g)
        return new, (new.loss_scale, updates)

    state, (found, updates) = jax.lax.scan(step, state, jnp.stack(gradients))
    return found.tolist(), updates, state


def test_the_scale_falls_at_an_overflow_and_grows_after_good_steps():
    tx = dynamic_loss_scale(sgd(1.0), 4.0, growth_interval=2, min_scale=2.0, max_scale=8.0)
    run = [GOOD, GOOD, GOOD, GOOD, INF, GOOD, INF, INF, GOOD, GOOD]
    found, updates, state = scales(tx, run[:7])
    # Two good steps double it up to the largest, an overflow halves it and starts the count again.
    assert found == [4.0, 8.0, 8.0, 8.0, 4.0, 4.0, 2.0]
    want = [-0.25, -0.25, -0.125, -0.125, 0.0, -0.25, 0.0]
    np.testing.assert_array_equal(updates, np.repeat(np.array(want, "f2")[:, None], 2, axis=1))
    assert state.skipped == 2 and np.all(np.signbit(updates))
    assert gradtx.readings(state)["loss_scale"] == 2.0 and gradtx.readings(state)["skipped"] == 2
    # At the smallest scale the gradient is passed on: an infinite gradient is not hidden.
    found, updates, state = scales(tx, run[7:], state)
    assert found == [2.0, 2.0, 4.0] and state.skipped == 2
    assert updates[0, 0] == -np.inf and updates[0, 1] == -0.5


def test_the_count_of_good_steps_starts_again_when_the_scale_has_grown():
    tx = dynamic_loss_scale(sgd(1.0), 4.0, growth_interval=2)
    assert scales(tx, [GOOD] * 6)[0] == [4.0, 8.0, 8.0, 16.0, 16.0, 32.0]


def test_a_skipped_step_changes_neither_the_inner_state_nor_a_bit_of_the_parameters():
    tx = dynamic_loss_scale(adam(0.1))
    params = jnp.array([0.0, -0.0], jnp.float16)
    _, state = tx.update(GOOD, tx.init(params), params)
    updates, new = tx.update(INF, state, params)
    after = gradtx.apply_updates(params, updates)
    assert np.asarray(after).tobytes() == np.asarray(params).tobytes()
    same(new.inner_state, state.inner_state)
    assert types(new) == types(state)


def test_skip_nonfinite_inside_counts_what_is_not_the_fault_of_the_scale():
    tx = dynamic_loss_scale(skip_nonfinite(sgd(1.0), max_consecutive=1), 4.0, min_scale=1.0)
    _, updates, state = scales(tx, [INF] * 3)
    gradtx.check(state)
    assert state.skipped == 2 and state.inner_state.total_notfinite == 1
    assert np.all(np.asarray(updates) == 0)
    *_, state = scales(tx, [INF], state)
    read = gradtx.readings(state)
    assert (read["skipped"], read["total_notfinite"], read["loss_scale"]) == (2, 2, 1.0)
    with pytest.raises(FloatingPointError, match=r"given up at `inner_state`.*2 in total"):
        gradtx.check(state)


def loss(params, x):
    """A loss whose gradient of 2**-30 is zero in float16."""
    return jnp.mean(params["w"] * x).astype(jnp.float32) * 2.0**-20


X, W = jnp.full(1024, 1.0, jnp.float16), {"w": jnp.ones(1024, jnp.float16)}


def test_gradients_that_float16_does_not_hold_are_found_with_a_scale():
    assert not np.any(jax.grad(loss)(W, X)["w"])
    tx = dynamic_loss_scale(sgd(2.0**20))

    def step(params, state):  # a loop that a user writes
        scale = gradtx.get(state, "loss_scale")
        grads = jax.grad(lambda p: loss(p, X) * scale)(params)
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state

    params, state = jax.jit(step)(W, tx.init(W))
    # Powers of two: every step is exact.
    np.testing.assert_array_equal(params["w"], np.float16(1 - 2.0**-10))
    got, new, metrics = gradtx.make_step(loss, donate=False)(tx, W, tx.init(W), X)
    same(got, params)
    same(new, state)
    assert metrics["loss"] == 2.0**-20 and metrics["loss_scale"] == 2.0**15
    same(metrics["skipped"], jnp.int32(0))


def test_a_step_of_flax_nnx_scales_the_loss():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(W["w"])

    model = Model()
    optimizer = nnx.Optimizer(model, dynamic_loss_scale(sgd(2.0**20)), wrt=nnx.Param)
    step = gradtx.make_nnx_step(lambda model, x: loss({"w": model.w[...]}, x))
    metrics = step(model, optimizer, X)
    np.testing.assert_array_equal(model.w[...], np.float16(1 - 2.0**-10))
    assert metrics["loss"] == 2.0**-20 and metrics["loss_scale"] == 2.0**15


def test_a_power_of_two_leaves_no_trace_in_float32():
    """The norm that a clip sees is that of the gradients themselves, and so is the argument `grad`."""

    class takes_grad(gradtx.Transform):
        def update_tree(self, updates, state, params, extra):
            return jax.tree.map(jnp.add, updates, extra["grad"]), state

    inner = chain(takes_grad(), clip_by_global_norm(1.0), adam(0.1))
    times = lambda scale: jax.tree.map(lambda g: scale * g, GRADIENT)
    tx = dynamic_loss_scale(inner, init_scale=2.0**10)
    got, state = tx.update(times(2.0**10), tx.init(PARAMS), PARAMS, grad=times(2.0**10))
    want, alone = inner.update(GRADIENT, inner.init(PARAMS), PARAMS, grad=GRADIENT)
    same(got, want)
    same(state.inner_state, alone)
    z = jnp.array([1 - 2j, 0 + 3j], jnp.complex64)
    tx = dynamic_loss_scale(sgd(1.0), init_scale=4.0)
    np.testing.assert_array_equal(tx.update(4 * z, tx.init(z), z)[0], -z)


def test_every_member_of_a_sweep_has_its_own_scale():
    tx = dynamic_loss_scale(sgd(1.0), 4.0)
    gradients = jnp.stack([jnp.stack([GOOD, INF]), jnp.stack([GOOD, GOOD])])
    got = jax.vmap(lambda own: _last(tx, own))(gradients)
    assert got.loss_scale.tolist() == [2.0, 4.0] and got.skipped.tolist() == [1, 0]
    txs = gradtx.stack([tx, gradtx.replace(tx, init_scale=16.0)])
    one = lambda tx: _last(tx, jnp.stack([GOOD, INF]))
    swept = jax.vmap(one, in_axes=(gradtx.axes(txs),))(txs)
    assert swept.loss_scale.tolist() == [2.0, 8.0]


def _last(tx, gradients):
    body = lambda state, g: (tx.update(g, state)[1], None)
    return jax.lax.scan(body, tx.init(gradients[0]), gradients)[0]


def test_all_devices_skip_the_same_steps():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    tx = dynamic_loss_scale(sgd(1.0), 4.0, axis_name="d")

    def train(params, gradients):
        body = lambda state, g: tx.update(g, state, params)[::-1]
        state, updates = jax.lax.scan(body, tx.init(params), gradients)
        return updates, state.loss_scale, state.skipped

    given = jnp.stack([jnp.ones(4), jnp.ones(4).at[3].set(jnp.inf), jnp.ones(4)])
    over, along = P("d"), P(None, "d")
    mapped = jax.shard_map(train, mesh=mesh, in_specs=(over, along), out_specs=(along, P(), P()))
    place = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
    updates, scale, skipped = jax.jit(mapped)(place(jnp.ones(4), over), place(given, along))
    assert scale == 2.0 and skipped == 1
    np.testing.assert_array_equal(np.asarray(updates)[:, 0], np.array([-0.25, 0.0, -0.5], "f4"))


def test_accumulation_keeps_one_scale_for_the_micro_batches_of_a_step():
    tx = gradtx.accumulate(dynamic_loss_scale(sgd(1.0), 4.0), 2)
    state = tx.init(GOOD)
    for g in (GOOD, INF, 4 * GOOD, 4 * GOOD):
        updates, state = tx.update(g, state, GOOD)
        found = gradtx.get(state, "loss_scale")
    assert found == 2.0 and gradtx.readings(state)["skipped"] == 1
    np.testing.assert_array_equal(updates, np.full(2, -2.0, "f2"))


def test_a_place_in_which_scaled_gradients_would_be_seen_is_refused():
    scaled, params = dynamic_loss_scale(sgd(0.1)), {"a": GOOD, "b": GOOD}
    for wrong in (
        chain(gradtx.clip(1.0), scaled),
        gradtx.masked(scaled, {"a": True, "b": False}),
        gradtx.partition({"x": scaled, "y": sgd(0.1)}, {"a": "x", "b": "y"}),
    ):
        with pytest.raises(ValueError, match="must be given all of them unchanged"):
            wrong.init(params)
    chain(gradtx.tap("grads"), scaled, gradtx.tap("step")).init(params)
    for wrap in (skip_nonfinite, gradtx.skip_spikes, dynamic_loss_scale):
        with pytest.raises(ValueError, match=r"Put it inside: `dynamic_loss_scale\(\w+\(...\)\)`"):
            wrap(chain(scaled))


def test_arguments_are_checked():
    wrongs: list[Any] = [
        ({"growth_interval": 0}, "growth_interval=0"),
        ({"init_scale": 0.5}, "between `min_scale=1.0`"),
        ({"init_scale": 2.0**30}, "`max_scale=16777216.0`"),
        ({"backoff_factor": 1.0}, "backoff_factor"),
        ({"growth_factor": 0.5}, "growth_factor"),
    ]
    for arguments, match in wrongs:
        with pytest.raises(ValueError, match=match):
            dynamic_loss_scale(sgd(0.1), **arguments)

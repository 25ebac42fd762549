"""`readings` is one flat dictionary of scalars, from the state of any host."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from flax.training.train_state import TrainState
from zoo import GRADIENT, PARAMS

import gradtx
from gradtx import adamw, chain, clip_by_global_norm, muon, norm, observe, readings, sgd, tap

TX = chain(tap("grads"), clip_by_global_norm(1.0), tap("clipped"), adamw(0.1))
NAMES = ["grads/global_norm", "clipped/global_norm", "learning_rate"]


def test_the_learning_rate_is_right_before_the_first_step_and_labelled_where_there_are_several():
    assert readings(sgd(0.25).init(PARAMS)) == {"learning_rate": np.float32(0.25)}
    both = readings(muon(0.5).init(PARAMS))
    assert set(both) == {"muon/learning_rate", "adamw/learning_rate"}
    chained = readings(chain(sgd(0.5), sgd(0.25)).init(PARAMS))
    assert sorted(map(float, chained.values())) == [0.25, 0.5] and len(chained) == 2


def test_a_state_without_readings_gives_an_empty_dictionary():
    assert readings(chain(clip_by_global_norm(1.0)).init(PARAMS)) == {}
    assert readings(()) == {}


def test_names_are_the_same_before_and_after_a_step_jitted_or_not():
    state = TX.init(PARAMS)
    _, after = TX.update(GRADIENT, state, PARAMS)
    inside = jax.jit(lambda state: readings(TX.update(GRADIENT, state, PARAMS)[1]))(state)
    assert list(readings(state)) == list(readings(after)) == NAMES
    assert sorted(inside) == sorted(NAMES)
    assert all(x.shape == () and x.dtype == "float32" for x in inside.values())


def test_stacked_states_give_arrays_over_time_and_a_batch_of_optimizers_gives_one_row_each():
    def train(tx):
        def body(state, factor):
            g = jax.tree.map(lambda x: factor * x, GRADIENT)
            state = tx.update(g, state, PARAMS)[1]
            return state, state

        return jax.lax.scan(body, tx.init(PARAMS), jnp.arange(1.0, 4.0))[1]

    over_time = readings(train(TX))
    want = np.arange(1, 4) * float(gradtx.global_norm(GRADIENT))
    np.testing.assert_allclose(over_time["grads/global_norm"], want, rtol=1e-6)
    batch = gradtx.stack([TX, gradtx.replace(TX, learning_rate=0.2)])
    swept = readings(jax.vmap(train, in_axes=(gradtx.axes(batch),))(batch))
    np.testing.assert_allclose(swept["learning_rate"], np.float32([[0.1] * 3, [0.2] * 3]))


def test_reads_the_optimizer_of_flax_nnx_and_its_state():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, observe(TX, norm(per="leaf")), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)
        optimizer.update(model, grads)
        return readings(optimizer)

    inside = step(model, optimizer, jnp.ones((4, 3)))
    outside = readings(optimizer)
    assert outside.keys() == readings(optimizer.opt_state).keys() == inside.keys()
    assert {"gradients/norm/kernel", "gradients/norm/bias", "learning_rate"} < outside.keys()
    for name, x in outside.items():
        assert isinstance(x, jax.Array) and x.shape == () and x == inside[name], name


def test_reads_a_train_state_and_the_state_of_optax_around_it():
    state = TrainState.create(apply_fn=len, params=PARAMS, tx=optax.apply_if_finite(TX, 3))
    bad = jax.tree.map(lambda x: x * jnp.nan, GRADIENT)
    for g in (GRADIENT, bad):
        state = state.apply_gradients(grads=g)
    found = readings(state)
    assert {*NAMES, "total_notfinite"} <= found.keys() and found["total_notfinite"] == 1
    np.testing.assert_allclose(found["clipped/global_norm"], 1.0, rtol=1e-6)


def test_names_of_different_taps_stay_plain_and_equal_ones_get_their_place():
    tx = chain(tap("a"), tap("a"), tap("b"))
    found = readings(tx.update(GRADIENT, tx.init(PARAMS))[1])
    assert list(found) == ["0/a/global_norm", "1/a/global_norm", "b/global_norm"]

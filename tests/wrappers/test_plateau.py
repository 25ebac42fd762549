"""`reduce_on_plateau`: Optax's numbers, and what is said about its arguments."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from zoo import exactly, types

import gradtx
from gradtx import chain, reduce_on_plateau, sgd, tunable

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.ones(())}
# It falls, stops, falls a little (by less than rtol), rises, and falls again.
LOSSES = [3.0, 2.0, 2.0, 1.99995, 2.5, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.6, 0.6]

SETTINGS = {
    "plain": {"patience": 2},
    "cooldown": {"patience": 1, "cooldown": 2, "factor": 0.5},
    "mean of several": {"patience": 1, "accumulation_size": 3, "factor": 0.5},
    "floor": {"patience": 1, "factor": 0.5, "min_scale": 0.2},
    "absolute": {"patience": 2, "rtol": 0.0, "atol": 0.1},
}


def scales(tx, losses=2 * LOSSES):
    """The updates for a gradient of 1, and the state, after each of the losses."""

    @jax.jit
    def step(state, value):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS, value=value)
        return state, (updates["b"], state)

    return jax.lax.scan(step, tx.init(PARAMS), jnp.asarray(losses))[1]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_numbers_and_states_are_those_of_optax(name):
    got = scales(reduce_on_plateau(**SETTINGS[name]))
    with jax.numpy_dtype_promotion("standard"):
        want = scales(optax.contrib.reduce_on_plateau(**SETTINGS[name]))
    assert types(got) == types(want)
    # One rounding per fall, and one in each mean.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-7), got, want)
    assert len({*np.asarray(got[0]).tolist()}) > 1  # it did fall


def test_follows_the_optimizer_in_a_chain_and_scales_all_leaves():
    tx = chain(sgd(1.0), reduce_on_plateau(0.25, patience=1))
    state = tx.init(PARAMS)
    for loss in (1.0, 1.0, jnp.bfloat16(1.0)):
        updates, state = tx.update(PARAMS, state, PARAMS, value=loss)
    exactly(updates, jax.tree.map(lambda p: -0.0625 * p, PARAMS))
    state = gradtx.set(state, scale=1.0)
    assert gradtx.get(state, "scale") == 1.0


def test_its_numbers_are_swept_and_tuned():
    def final(tx):
        return scales(tx)[0][-1]

    several = [reduce_on_plateau(0.5, patience=1), reduce_on_plateau(0.25, patience=3)]
    batch = gradtx.stack(several)
    got = jax.vmap(final, in_axes=(gradtx.axes(batch),))(batch)
    np.testing.assert_allclose(got, [final(tx) for tx in several], rtol=5e-7)
    for tx in several:
        exactly(scales(tunable(tx))[0], scales(tx)[0])


def test_is_a_value():
    tx = reduce_on_plateau(0.5, patience=3, cooldown=2)
    assert gradtx.parse(repr(tx)) == tx == copy.deepcopy(tx)
    assert repr(tx) == "reduce_on_plateau(factor=0.5, patience=3.0, cooldown=2.0)"
    assert repr(reduce_on_plateau()) == "reduce_on_plateau()"


def test_says_what_is_wrong():
    tx = chain(sgd(0.1), reduce_on_plateau())
    with pytest.raises(ValueError, match=r"needs the loss: call `update\(.*value=loss\)`"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match=r"one number, not an array of shape \(2,\)"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=jnp.ones(2))
    with pytest.raises(ValueError, match=r"rtol=0.0, atol=0.0"):
        reduce_on_plateau(rtol=0.0)
    for wrong in ({"factor": 1.0}, {"factor": 0}, {"patience": 0}, {"rtol": 2}, {"min_scale": -1}):
        with pytest.raises(ValueError, match="must lie in"):
            reduce_on_plateau(**wrong)

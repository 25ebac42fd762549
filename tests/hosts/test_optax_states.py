"""Code that reads a state of Optax by class, by position or by name reads a state of gradtx.

The cases are those of the table in docs/optax.md.
"""

import jax
import jax.numpy as jnp
import optax
import pytest
from chex import assert_trees_all_equal

import gradtx

PARAMS = {"w": jnp.ones(2)}


def test_by_position():
    assert gradtx.adamw(1e-3).init(PARAMS)[0].mu.keys() == PARAMS.keys()
    clipped = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(1e-3))
    assert clipped.init(PARAMS)[1][0].mu.keys() == PARAMS.keys()


def test_by_class():
    state = gradtx.masked(gradtx.adamw(1e-3), {"w": True, "b": False}).init(
        {"w": jnp.ones(2), "b": jnp.ones(1)}
    )
    kinds = optax.ScaleByAdamState, optax.MaskedNode
    found = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds))
    assert isinstance(found[0], optax.ScaleByAdamState)
    assert isinstance(found[0].mu["b"], optax.MaskedNode)


def test_by_name():
    state = gradtx.adamw(1e-3).init(PARAMS)
    assert_trees_all_equal(optax.tree.get(state, "mu"), gradtx.get(state, "mu"))
    assert optax.tree.get(state, "count") == 0
    several = gradtx.chain(gradtx.adam(1e-3), gradtx.adam(1e-3)).init(PARAMS)
    with pytest.raises(KeyError):
        optax.tree.get(several, "count")
    assert gradtx.get(several, "1.0.count") == 0


@pytest.mark.parametrize(
    "tx",
    [
        gradtx.tunable(gradtx.adamw(1e-3)),
        gradtx.inject_hyperparams(gradtx.adamw)(learning_rate=1e-3),
    ],
    ids=["tunable", "inject_hyperparams"],
)
def test_the_learning_rate_by_name(tx):
    state = tx.init(PARAMS)
    assert optax.tree.get(state, "learning_rate") == jnp.float32(1e-3)
    state = optax.tree.set(state, learning_rate=0.1)
    assert state.hyperparams["learning_rate"] == jnp.float32(0.1)
    updates, _ = tx.update(PARAMS, state, PARAMS)
    expected, _ = gradtx.adamw(0.1).update(PARAMS, gradtx.adamw(0.1).init(PARAMS), PARAMS)
    assert_trees_all_equal(updates, expected)


def test_a_map_over_the_parts_that_are_like_parameters():
    for tx in (
        gradtx.adamw(1e-3),
        gradtx.muon(1e-3),
        gradtx.tunable(gradtx.adam(1e-3)),
        gradtx.masked(gradtx.adam(1e-3), {"w": True, "m": False}),
    ):
        params = {"w": jnp.ones(2), "m": jnp.ones((2, 2))}
        state = tx.init(params)
        doubled = optax.tree.map_params(tx, lambda x: x + 2, state)
        assert jax.tree.structure(doubled) == jax.tree.structure(state)

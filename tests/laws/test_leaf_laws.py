"""The laws of leaves: absent gradients, leaves that are not optimized, and what errors say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import SMALL, exactly, full, train, tree, types

import gradtx


def test_missing_gradient_leaves_its_state_and_moves_nothing(row):
    tx, shapes = row.make(), {"going": SMALL, "still": SMALL}
    params = tree(shapes=shapes)
    _, before = train(tx, params, [tree(seed=1, shapes=shapes)])
    g = tree(seed=2, shapes=shapes) | {"still": dict.fromkeys(SMALL)}
    updates, after = tx.update(g, before, params)
    pairs = zip(*map(jax.tree_util.tree_leaves_with_path, (before, after)), strict=True)
    for (path, old), (_, new) in pairs:
        if any(getattr(key, "key", None) == "still" for key in path):
            assert old.tobytes() == new.tobytes()
    for name, update in updates["still"].items():
        got = np.asarray(update)
        assert got.shape == params["still"][name].shape and np.all((got == 0) & np.signbit(got))
    exactly(gradtx.apply_updates(params, updates)["still"], params["still"])


def test_passes_over_what_is_not_optimized(row):
    params = tree(shapes=SMALL)
    odd = {"steps": jnp.arange(3), "mask": jnp.array([True, False]), "none": None, "act": jnp.tanh,
           "name": "dense", "size": 3, "key": jax.random.key(0)}  # fmt: skip
    model = {"odd": odd, "params": params}
    tx, g = row.make(), tree(seed=1, shapes=SMALL)
    state = tx.init(model)
    alone = tx.init({"params": params})
    assert [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(alone)]
    float0 = np.zeros(3, jax.dtypes.float0)
    for steps in (None, jnp.arange(3), float0):
        gradients = {"odd": dict.fromkeys(odd) | {"steps": steps}, "params": g}
        updates, new = tx.update(gradients, state, model)
        want, _ = tx.update({"params": g}, alone, {"params": params})
        exactly(updates["params"], want["params"])
        assert types(new) == types(state)
        moved = gradtx.apply_updates(model, updates)
        assert moved["odd"].pop("key") == odd["key"]
        assert all(moved["odd"][k] is odd[k] for k in ("none", "act", "name", "size"))
        assert (
            moved["odd"]["steps"].tolist() == [0, 1, 2] and moved["odd"]["steps"].dtype == "int32"
        )
        assert moved["odd"]["mask"].tolist() == [True, False]


def test_trees_may_be_empty(row):
    tx = row.make()
    for empty in ({}, (), {"a": None, "b": []}):
        state = tx.init(empty)
        updates, after = tx.update(empty, state, empty)
        assert updates == empty and types(after) == types(state)


def test_wrong_gradients_are_errors_that_name_the_leaf(row):
    tx, params = row.make(), tree(shapes={"layers": [SMALL, SMALL]})
    state = tx.init(params)

    def spoil(leaf):
        g = tree(shapes={"layers": [SMALL, SMALL]})
        g["layers"][1]["bias"] = leaf
        return g

    for leaf, says in (
        (jnp.ones(4), "shape"), (jnp.ones((1,)), "shape"), (jnp.ones((3, 3)), "shape"),
        (jnp.ones(3, "int32"), "int32"), (jnp.ones(3, "complex64"), "complex64"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"layers/1/bias.*{says}"):
            tx.update(spoil(leaf), state, params)
    less = tree(shapes={"layers": [SMALL, SMALL]})
    del less["layers"][1]["bias"]
    with pytest.raises(ValueError, match="layers/1/bias"):
        tx.update(less, state, params)
    with pytest.raises(ValueError, match="complex"):
        tx.update(
            tree(shapes=SMALL), tx.init(full(1, "complex64", SMALL)), full(1, "complex64", SMALL)
        )


def test_parameters_are_asked_for_exactly_where_they_are_needed(row):
    tx, params, g = row.make(), tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    state = tx.init(params)
    if row.needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(g, state)
    else:
        exactly(tx.update(g, state), tx.update(g, state, params))

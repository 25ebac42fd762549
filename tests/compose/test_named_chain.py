"""Chains whose links have names, and transformations made from a function."""

import jax
import jax.numpy as jnp
import optax
import pytest
from chex import assert_trees_all_equal

import gradtx
from gradtx import adam, chain, clip, named_chain, scale, stateless, stateless_with_tree_map

W = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def test_a_named_chain_is_a_chain_whose_state_has_names():
    named, plain = (
        named_chain(("clip", clip(0.5)), ("adam", adam(0.1))),
        chain(clip(0.5), adam(0.1)),
    )
    state, other = named.init(W), plain.init(W)
    for _ in range(3):
        updates, state = named.update(W, state, W)
        expected, other = plain.update(W, other, W)
        assert_trees_all_equal(updates, expected)
    assert_trees_all_equal(state, {"clip": other[0], "adam": other[1]})
    assert gradtx.get(state, "adam.mu")["b"] == gradtx.get(other, "mu")["b"]


def test_the_state_of_a_named_chain_has_the_layout_of_optax():
    ours = named_chain(("clip", clip(0.5)), ("scale", scale(0.1))).init(W)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.named_chain(("clip", optax.clip(0.5)), ("scale", optax.scale(0.1))).init(W)
    assert ours.keys() == theirs.keys()


def test_the_order_of_the_links_is_kept_when_names_are_not_sorted():
    tx = named_chain(("z", clip(1.0)), ("a", scale(0.5)))
    assert jax.tree.map(lambda x: x, tx).links == tx.links == (clip(1.0), scale(0.5))
    assert float(jax.jit(lambda tx: tx.update(jnp.array(4.0), tx.init(0.0))[0])(tx)) == 0.5


def test_wrong_links_are_refused_with_a_pair_to_write():
    with pytest.raises(TypeError, match=r"a pair of a name and a transformation.*not"):
        named_chain(clip(0.5))  # pyright: ignore
    with pytest.raises(TypeError, match="a pair of a name"):
        named_chain((1, clip(0.5)))  # pyright: ignore
    with pytest.raises(TypeError, match=r"named_chain\(\('x', ...\)\)` must be a gradient"):
        named_chain(("x", 3))  # pyright: ignore
    with pytest.raises(ValueError, match="two links named 'x'"):
        named_chain(("x", clip(1.0)), ("x", clip(1.0)))


def sums(updates, params):
    return jax.tree.map(lambda u, p: u + 2 * p, updates, params)


def test_a_function_of_two_arguments_is_a_transformation():
    for tx in (stateless(sums), stateless_with_tree_map(lambda u, p: u + 2 * p)):
        updates, state = tx.update(W, tx.init(W), W)
        assert_trees_all_equal(updates, jax.tree.map(lambda x: 3 * x, W))
        assert not jax.tree.leaves(state)


def test_a_function_of_the_tree_is_told_that_there_are_no_parameters():
    seen = []
    stateless(lambda u, p: seen.append(p) or u).update(W, ())
    assert seen == [None]


def test_what_is_not_a_function_of_two_arguments_is_refused():
    with pytest.raises(TypeError, match=r"stateless\(f=3\)` must be a function"):
        stateless(3)  # pyright: ignore
    with pytest.raises(TypeError, match=r"function of two arguments.*takes `\(x\)`"):
        stateless_with_tree_map(lambda x: x)  # pyright: ignore

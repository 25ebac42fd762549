"""Random compositions and gradients against the laws: a short run of `make fuzz`."""

import contextlib

import compositions
import examine
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from hypothesis import assume, given, settings, strategies as st

import gradtx

KINDS = sorted(examine.DTYPES)


@settings(max_examples=4)
@given(st.integers(0, 10**6), st.sampled_from(sorted(examine.SIZES)))
def test_a_random_composition_holds_the_laws(number, size):
    row, kind = compositions.composed(number, KINDS)
    params = examine.trees(np.random.default_rng(number), kind, 1.0, number)
    assume(compositions.refusal(row, params) is None)
    examine.examine(row, kind, number, {"one": 1.0, size: examine.SIZES[size]}, runs=1)


def test_the_fuzzer_draws_every_public_transformation():
    drawn = set().union(*(compositions.names(row.code) for row in compositions.LEAVES))
    made = [row.make() for row in zoo.ROWS]
    assert drawn >= {type(tx).__name__ for tx in made} - set(zoo.OWN) - {"qk_clip"}
    turn = [compositions.composed(number, KINDS)[0] for number in range(len(compositions.LEAVES))]
    assert set().union(*(compositions.names(row.code) for row in turn)) >= drawn


# Each breaks one law, as a transformation of a user's might.
def doubled_where_traced(x):
    return x * (2 if isinstance(x, jax.core.Tracer) else 1)


BROKEN = {
    "jit equals eager": optax.stateless(lambda g, _: jax.tree.map(doubled_where_traced, g)),
    "type law": optax.GradientTransformation(
        lambda params: jnp.zeros(1), lambda g, state, _=None: (g, jnp.zeros(2))
    ),
    "no NaN": optax.stateless(lambda g, _: jax.tree.map(lambda x: x / x, g)),
    "shard_map equals one device": optax.stateless(
        lambda g, _: jax.tree.map(lambda x: x * (1 + len(jax.typeof(x).sharding.mesh.shape)), g)
    ),
}


@pytest.mark.parametrize("kind", ["float32", "mixed"])
@pytest.mark.parametrize("law", BROKEN)
def test_the_fuzzer_finds_a_law_that_is_broken(monkeypatch, law, kind):
    monkeypatch.setitem(zoo.NAMES, "broken", BROKEN[law])
    row = zoo.Row("chain(broken, scale(1.0))")
    found = pytest.raises(examine.Law, match=law)
    with contextlib.nullcontext() if kind == "mixed" and "shard_map" in law else found:
        examine.examine(row, kind, 0, {"zero": 0.0, "one": 1.0}, runs=1)


class adds_one(gradtx.Elementwise):
    keeps_zero = True  # it says so

    def update_leaf(self, update, state, param):
        return update + 1, state


def test_the_fuzzer_finds_a_zero_that_is_not_kept(monkeypatch):
    monkeypatch.setitem(zoo.NAMES, "adds_one", adds_one)
    with pytest.raises(examine.Law, match="zero for zero"):
        examine.examine(zoo.Row("adds_one()"), "float32", 0, {"zero": 0.0}, runs=1)


def test_results_that_differ_by_more_than_roundings_are_found():
    for dtype in ("float32", "bfloat16", "float16"):
        x = jnp.asarray([1.0, -0.5], dtype)
        examine._close("close", {"x": x * (1 + jnp.finfo(dtype).eps)}, {"x": x}, dtype)
        for wrong in (-x, 1.5 * x, jnp.zeros_like(x)):
            with pytest.raises(examine.Law):
                examine._close("close", {"x": wrong}, {"x": x}, dtype)

"""`locate_nonfinite`: a fault that is planted anywhere is found there, and none is found elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from shares import share
from zoo import GRADIENT, PARAMS

import gradtx
from gradtx import adam, chain, clip, locate_nonfinite, scale, sgd


class divided(gradtx.Elementwise):
    """A class of an author that divides by zero."""

    def update_leaf(self, update, state, param):
        return update / (update - update), state


class wrapped(gradtx.Wrapper, gradtx.Elementwise):
    """A wrapper of an author that divides by zero."""

    def update_leaf(self, update, state, param, given):
        return update / (given - given), state


class called(gradtx.Wrapper):
    """A wrapper of an author that calls its inner transformation itself."""

    def update_tree(self, updates, state, params, extra):
        updates, state = self.inner.update_tree(updates, state, params, extra)
        return jax.tree.map(lambda u: jnp.log(-jnp.abs(u)), updates), state


class normalized(gradtx.Recipe):
    def expand(self):
        return chain(scale(2.0), divided())


def locate(tx, g=GRADIENT, params=PARAMS, **extra):
    return locate_nonfinite(tx, g, tx.init(params), params, **extra)


def is_matrix(path, leaf):
    return leaf.ndim == 2


# Every composition and kind of wrapper, and the place of `divided` in it.
PLACES = [
    (divided(), ""),
    (chain(clip(1.0), divided(), adam(0.1)), "chain[1]"),
    (chain(adam(0.1), chain(scale(2.0), divided())), "chain[1]/chain[1]"),
    (gradtx.named_chain(("a", scale(2.0)), ("b", divided())), "named_chain['b']"),
    (scale(2.0) / divided(), "fanout[1]"),
    (chain(normalized(), scale(2.0)), "chain[0]/normalized/chain[1]"),
    (gradtx.masked(divided(), is_matrix), "masked"),
    (
        gradtx.partition({True: chain(divided()), False: sgd(0.1)}, is_matrix),
        "partition[True]/chain[0]",
    ),
    (gradtx.cautious(chain(scale(2.0), divided())), "cautious/chain[1]"),
    (gradtx.tunable(chain(scale(2.0), divided())), "tunable/chain[1]"),
    (gradtx.observe(chain(scale(2.0), divided())), "observe/chain[1]"),
    (gradtx.averaged(chain(divided(), sgd(0.1))), "averaged/chain[0]"),
    (gradtx.accumulate(chain(scale(2.0), divided()), 1), "accumulate/chain[1]"),
    (
        gradtx.skip_nonfinite(gradtx.skip_spikes(gradtx.every(1, divided()))),
        "skip_nonfinite/skip_spikes/every",
    ),
    (
        chain(scale(2.0), gradtx.master_weights(chain(divided()))),
        "chain[1]/master_weights/chain[0]",
    ),
    (called(chain(divided())), "called/chain[0]"),
]


@pytest.mark.parametrize(("tx", "place"), PLACES, ids=lambda x: x if isinstance(x, str) else "")
def test_the_first_stage_that_divides_by_zero_is_found_in_every_composition(tx, place):
    found = locate(tx)
    assert found is not None and found.what == "stage"
    assert (found.stage, found.place) == ("divided()", place)
    only_matrices = "masked" in place or "partition" in place
    assert found.path == ("kernel" if only_matrices else "bias")
    assert "divided()" in str(found) and "\n" not in str(found)


def test_a_wrapper_that_makes_the_fault_itself_is_named_and_not_what_is_inside_it():
    for tx, stage, place in (
        (chain(scale(2.0), wrapped(sgd(1.0))), "wrapped(sgd(1.0))", "chain[1]"),
        (chain(scale(2.0), called(sgd(1.0))), "called(sgd(1.0))", "chain[1]"),
        (chain(scale(2.0), optax.scale(float("inf"))), "foreign", "chain[1]"),
    ):
        found = locate(tx)
        assert found is not None and found.what == "stage"
        assert found.stage.startswith(stage) and found.place == place


def test_what_overflows_is_found_where_it_overflows():
    huge = jax.tree.map(lambda g: jnp.full_like(g, 3e38), GRADIENT)
    found = locate(chain(scale(1.0), scale(2.0), clip(1.0)), huge)
    assert found is not None and (found.stage, found.place) == ("scale(2.0)", "chain[1]")
    # In the state alone: the update of the step is finite.
    tx = chain(gradtx.tap("g"), clip(1.0))
    found = locate(tx, huge)
    assert found is not None and (found.what, found.path) == (
        "new state",
        "0/readings/g/global_norm",
    )
    # In rounding alone.
    params = {"w": jnp.ones(2, "float16")}
    found = locate(scale(1e4), {"w": jnp.full(2, 100.0, "float16")}, params)
    assert found is not None and (found.what, found.path) == ("rounding", "w")


def spoiled(tree, number, value=jnp.nan):
    """The tree with one entry of its leaf of this number spoiled, and the path of the leaf."""
    leaves, structure = jax.tree.flatten(tree)
    leaves[number] = leaves[number].at[(0,) * leaves[number].ndim].set(value)
    path, _ = jax.tree_util.tree_leaves_with_path(tree)[number]
    return structure.unflatten(leaves), jax.tree_util.keystr(path, simple=True, separator="/")


@pytest.mark.parametrize("row", share(zoo.ROWS, "in every array", 12), ids=str)
def test_a_fault_before_the_step_is_found_in_every_array(row):
    tx = row.make()
    state = tx.init(PARAMS)
    for number in range(len(PARAMS)):
        g, path = spoiled(GRADIENT, number)
        found = locate_nonfinite(tx, g, state, PARAMS)
        assert found is not None and (found.what, found.path) == ("gradient", path)
        params, path = spoiled(PARAMS, number, jnp.inf)
        found = locate_nonfinite(tx, GRADIENT, state, params)
        assert found is not None and (found.what, found.path) == ("parameter", path)
    for number, x in enumerate(jax.tree.leaves(state)):
        if jnp.issubdtype(x.dtype, jnp.inexact) and x.size:
            bad, path = spoiled(state, number)
            found = locate_nonfinite(tx, GRADIENT, bad, PARAMS)
            assert found is not None and (found.what, found.path) == ("state", path)


# A step compiles every part of a row once more.
SOME = share(zoo.ROWS, "nothing", 40)


@pytest.mark.parametrize("row", SOME, ids=str)
def test_nothing_is_found_in_a_step_in_which_nothing_is_wrong(row):
    assert locate(row.make()) is None


def test_arguments_and_numbers_that_are_not_finite_are_named():
    plateau = chain(sgd(0.1), gradtx.reduce_on_plateau())
    found = locate(plateau, value=jnp.inf)
    assert found is not None and (found.what, found.path) == ("argument", "value")
    assert locate(plateau, value=1.0) is None  # its best value is infinite before the first step
    broken = jax.tree.map(lambda x: jnp.full((), jnp.nan), sgd(0.1))
    found = locate_nonfinite(broken, GRADIENT, sgd(0.1).init(PARAMS), PARAMS)
    assert found is not None and (found.what, found.path) == ("hyperparameter", "learning_rate")


def test_leaves_that_are_not_optimized_are_passed_over_and_nothing_changes():
    params = {"w": jnp.ones(2), "n": jnp.arange(2), "none": None}
    g = {"w": jnp.ones(2), "n": np.zeros(2, jax.dtypes.float0), "none": None}
    tx = chain(scale(2.0), divided())
    with jax.debug_nans(True):
        found = locate_nonfinite(tx, g, tx.init(params), params)
    assert found is not None and found.path == "w"
    assert tx == chain(scale(2.0), divided()) and found.message == repr(found)


def test_a_traced_step_is_an_error_that_says_where_to_call_it():
    with pytest.raises(TypeError, match=r"outside of `jax.jit`"):
        jax.jit(lambda g: locate(sgd(0.1), g))(GRADIENT)

"""The laws of counters at their end: they stay at the largest count, where nothing else changes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ROWS, tree

LAST = 2**31 - 1
SHAPES = {"kernel": (2, 3)}


# Counters of steps, and of what may happen in a step.
STEPS = {"count", "step", "step_count", "gradient_step"}
EVENTS = {"skipped", "clipped", "dropped", "total_notfinite"}
# Counters that begin again: after k micro-batches, after a good step, or at the largest count.
RESTARTING = {"mini_step", "kept", "good_steps", "notfinite_count", "encodings"}


def named(path):
    """The names of the fields on the way to a leaf."""
    return set(jax.tree_util.keystr(path, simple=True, separator="/").split("/"))


def counters(state):
    """The paths of the counters that only rise."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return [p for p, x in found if x.dtype == "int32" and named(p) & (STEPS | EVENTS)]


def counted(state, n, names=STEPS | EVENTS):
    """The state with every counter of these names at `n`."""
    put = lambda p, x: jnp.full_like(x, n) if x.dtype == "int32" and named(p) & names else x
    return jax.tree_util.tree_map_with_path(put, state)


@pytest.mark.representatives
def test_counters_stay_at_the_largest_count_where_schedules_and_corrections_keep_their_value(row):
    if "fading" in row.code or "mean_of_all" in row.code:
        return  # the function and the class of a user add 1 to the last count by themselves
    if row.code.startswith(("chain(", "observe(", "stored(", "masked(", "zero1(", "offloaded(")):
        return  # the counters inside have rows of their own
    tx, params = row.make(), tree(shapes=SHAPES)
    state = tx.init(params)
    if not counters(state):
        return
    step = jax.jit(tx.update)
    _, state = step(tree(seed=1, shapes=SHAPES), state, params)
    g = tree(seed=2, shapes=SHAPES)
    before, _ = step(g, counted(state, LAST - 1), params)
    at_last, after = step(g, counted(state, LAST), params)
    # A schedule may differ between the last count and the one before it by a rounding.
    for x, y in zip(*map(jax.tree.leaves, (before, at_last)), strict=True):
        assert np.all(np.isfinite(y))
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-12)
    stay(after)


def stay(after):
    """Assert that all counters are at the largest count, and that every counter has a known name."""
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(after),
        jax.tree.leaves(counted(after, LAST)),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)
        assert x.dtype != "int32" or named(path) & (STEPS | EVENTS | RESTARTING), path


WITH_EVENTS = [
    row
    for row in ROWS
    if re.search("^(skip_|clip_by_(z_score|percentile|average_norm)|dynamic_loss_scale)", row.code)
]


@pytest.mark.parametrize("row", WITH_EVENTS, ids=str)
def test_counters_of_what_happens_in_a_step_stay_at_the_largest_count_when_it_happens(row):
    tx, params = row.make(), tree(shapes=SHAPES)
    with jax.disable_jit():
        state = tx.init(params)
        for seed in (1, 2):
            _, state = tx.update(tree(seed=seed, shapes=SHAPES), state, params)
        full, found = counted(state, LAST, EVENTS), set()
        for size in (jnp.nan, 1e6):
            g = tree(seed=3, shapes=SHAPES, size=size)
            _, fresh = tx.update(g, counted(state, 0, EVENTS), params)
            found |= {str(p) for p in counters(fresh) if named(p) & EVENTS and at(fresh, p) == 1}
            _, after = tx.update(g, full, params)
            stay(counted(after, LAST, STEPS))
    assert found, "nothing has happened"


def at(tree, path):
    """The leaf of a tree at a path."""
    return dict(jax.tree_util.tree_leaves_with_path(tree))[path]

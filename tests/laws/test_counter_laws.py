"""The laws of counters at their end: they stay at the largest count, where nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import tree

LAST = 2**31 - 1
SHAPES = {"kernel": (2, 3)}


def counters(state):
    """The paths of the counters of steps; others, such as of steps in a row, start again."""
    found = jax.tree_util.tree_leaves_with_path(state)
    names = [
        jax.tree_util.keystr(p, simple=True, separator="/") for p, x in found if x.dtype == "int32"
    ]
    return [name for name in names if name.rpartition("/")[2] in ("count", "step")]


def counted(state, n):
    """The state with every counter of steps at `n`."""

    def put(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return jnp.full_like(x, n) if name in known else x

    known = counters(state)
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
    exact = jax.tree.leaves(counted(after, LAST))
    for x, y in zip(jax.tree.leaves(after), exact, strict=True):
        np.testing.assert_array_equal(x, y)

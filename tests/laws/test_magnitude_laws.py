"""The laws of magnitudes: zero gradients, gradients of every size, and gradients that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import SMALL, full, tree

NARROW = ("bfloat16", "float16")
SIZES = (1e-45, 1e-30, 1e-8, 1e4, 1e30, np.inf)  # the last stands for the largest finite number
KERNEL = {"kernel": SMALL["kernel"]}
# Trees with a subtree per dtype, whose steps are compiled. Steps on float32 run one operation at a time:
# the programs that they are made of are shared with other laws.
TREES = [
    {"bfloat16": {"bias": SMALL["bias"], "gain": ()}, "float16": SMALL, "complex64": KERNEL},
    {"float64": KERNEL},
]


def sizes(row, dtype):
    """The sizes of the runs of gradients in this dtype; the last is the largest finite number."""
    largest = float(jnp.finfo(dtype).max)
    if "_dtype='bfloat16'" in row.code:  # a gradient has to fit into the dtype that was asked for
        largest = 1e18 if dtype == "float64" else min(largest, float(jnp.finfo("bfloat16").max))
    return [0.0, *(min(size, largest) for size in SIZES)]


def test_zero_gradient_gives_exactly_zero_or_the_decay_and_no_finite_gradient_gives_nan(row):
    check(row, {"float32": SMALL})


@pytest.mark.representatives
@pytest.mark.parametrize("shapes", TREES, ids=" ".join)
def test_the_same_holds_in_other_dtypes(row, shapes):
    check(row, shapes)


def check(row, shapes):
    """Hold runs of gradients of every size against the law, on a tree of these shapes."""
    with jax.enable_x64("float64" in shapes):
        tx = row.make()
        update = tx.update if "float32" in shapes else jax.jit(tx.update)
        params = {dtype: tree(dtype, shapes=shapes[dtype]) for dtype in shapes}
        for size in zip(*(sizes(row, dtype) for dtype in shapes), strict=True):
            check_run(row, tx, update, params, shapes, dict(zip(shapes, size, strict=True)))


def check_run(row, tx, update, params, shapes, size):
    """Hold five steps against the law, with gradients of one size in each dtype."""
    state, spoiled = tx.init(params), False
    for step, factor in enumerate((1, -1, 1, 0, None)):
        entry = {dtype: min(x, 1.0) if factor is None else factor * x for dtype, x in size.items()}
        g = {dtype: full(x, dtype, shapes[dtype]) for dtype, x in entry.items()}
        updates, state = update(g, state, params)
        arrays = [
            (jax.tree_util.keystr(path), np.asarray(x).astype("complex128"))
            for path, x in jax.tree_util.tree_leaves_with_path((updates, state))
        ]
        infinite = [name for name, x in arrays if np.any(np.isinf(x))]
        assert not infinite or not (row.bounded or not any(size.values())), (infinite, size, step)
        # The product of an infinite complex number with a real one has a NaN part.
        spoiled |= any("complex64" in name for name in infinite)
        for name, x in arrays:
            if not spoiled or any(dtype in name for dtype in set(size) - {"complex64"}):
                assert not np.any(np.isnan(x)), (name, size, step)
        if step == 2 and row.at_zero is not None and not any(size.values()):
            for dtype in size:
                check_zero(row, dtype, updates[dtype], params[dtype])


def check_zero(row, dtype, updates, params):
    """Hold the third update under zero gradients against what the row says."""
    wide = "float32" if dtype in NARROW else dtype
    dtype = wide if row.make().wide_updates else dtype
    for got, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True):
        want = np.asarray(jnp.asarray(row.at_zero(np.asarray(p, wide)), dtype))
        assert got.dtype == want.dtype
        # Zero is exact. A decay may be off by one rounding where a product is fused with a sum.
        got, want = (np.asarray(x).astype("complex128") for x in (got, want))
        np.testing.assert_allclose(got, want, rtol=2 * float(jnp.finfo(dtype).eps), atol=0)


def test_not_a_number_is_not_hidden(row):
    if any(
        word in row.code
        for word in ("scale_by_sign", "constant", "freeze", "parameters", "zero_nans")
    ):
        return  # their updates do not depend on the size of a gradient, or not on the gradient
    if any(word in row.code for word in ("accumulate", "skip")):
        return  # their first step is not taken, or not if it is not finite
    tx, params = row.make(), tree(shapes=SMALL)
    updates, _ = tx.update(zoo.full(np.nan, shapes=SMALL), tx.init(params), params)
    assert any(np.all(np.isnan(x)) for x in jax.tree.leaves(updates))

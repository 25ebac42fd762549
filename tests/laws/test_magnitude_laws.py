"""The laws of magnitudes: zero gradients, gradients of every size, and gradients that are not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import SMALL, full, tree

NARROW = ("bfloat16", "float16")
SIZES = (1e-45, 1e-30, 1e-8, 1e4, 1e30, np.inf)  # the last stands for the largest finite number


def sizes(row, dtype):
    """The sizes of the runs of gradients in this dtype; the last is the largest finite number."""
    largest = float(jnp.finfo(dtype).max)
    if "_dtype='bfloat16'" in row.code:  # a gradient has to fit into the dtype that was asked for
        largest = 1e18 if dtype == "float64" else min(largest, float(jnp.finfo("bfloat16").max))
    return [0.0, *(min(size, largest) for size in SIZES)]


@pytest.mark.parametrize("dtype", ["float32", *NARROW, "complex64", "float64"])
def test_zero_gradient_gives_exactly_zero_or_the_decay_and_no_finite_gradient_gives_nan(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        tx, params = row.make(), tree(dtype, shapes=SMALL)
        update = jax.jit(tx.update)  # one program for all steps
        for size in sizes(row, dtype):
            state = tx.init(params)
            for step, factor in enumerate((size, -size, size, 0.0, min(size, 1.0))):
                updates, state = update(full(factor, dtype, SMALL), state, params)
                arrays = [
                    np.asarray(x).astype("complex128") for x in jax.tree.leaves((updates, state))
                ]
                overflowed = any(np.any(np.isinf(x)) for x in arrays)
                assert not overflowed or not (row.bounded or size == 0), (size, step)
                if overflowed and dtype == "complex64":
                    break  # the product of an infinite complex number with a real one has a NaN part
                assert not any(np.any(np.isnan(x)) for x in arrays), (size, step)
                if size == 0 and step == 2 and row.at_zero is not None:
                    check_zero(row, dtype, updates, params)


def check_zero(row, dtype, updates, params):
    """Hold the third update under zero gradients against what the row says."""
    wide = "float32" if dtype in NARROW else dtype
    dtype = wide if "master_weights" in row.code else dtype
    for got, p in zip(*map(jax.tree.leaves, (updates, params)), strict=True):
        want = np.asarray(jnp.asarray(row.at_zero(np.asarray(p, wide)), dtype))
        assert got.dtype == want.dtype
        # Zero is exact. A decay may be off by one rounding where a product is fused with a sum.
        got, want = (np.asarray(x).astype("complex128") for x in (got, want))
        np.testing.assert_allclose(got, want, rtol=2 * float(jnp.finfo(dtype).eps), atol=0)


def test_not_a_number_is_not_hidden(row):
    if any(word in row.code for word in ("scale_by_sign", "constant", "freeze")):
        return  # their updates do not depend on the size of a gradient, or not on the gradient
    if any(word in row.code for word in ("accumulate", "skip")):
        return  # their first step is not taken, or not if it is not finite
    tx, params = row.make(), tree(shapes=SMALL)
    updates, _ = tx.update(zoo.full(np.nan, shapes=SMALL), tx.init(params), params)
    assert any(np.all(np.isnan(x)) for x in jax.tree.leaves(updates))

"""Accumulators in a narrow dtype: what is finite stays finite, and never becomes NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx._core.dtypes import saturated

NARROW = "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"


class squares_in(gradtx.Elementwise):
    """A user's class, which keeps squares in a dtype that the library's own classes refuse."""

    dtype: str = "float16"

    def init_leaf(self, param):
        return gradtx.accumulator(param, self.dtype)

    def update_leaf(self, update, state, param):
        nu = 0.9 * state + 0.1 * jnp.square(update)
        return update / (jnp.sqrt(nu) + 1e-8), nu


MEMBERS = {
    "mu_dtype": lambda dtype: gradtx.adam(0.1, mu_dtype=dtype),
    "both": lambda dtype: gradtx.adamw(0.1, mu_dtype=dtype, nu_dtype="bfloat16"),
    "nadam": lambda dtype: gradtx.nadam(0.1, mu_dtype=dtype, nu_dtype="bfloat16"),
    "momentum": lambda dtype: gradtx.scale_by_momentum(accumulator_dtype=dtype),
    "sum_of_squares": lambda _: gradtx.sum_of_squares(accumulator_dtype="bfloat16"),
    "quotient": lambda dtype: (
        gradtx.scale_by_momentum(accumulator_dtype=dtype)
        / gradtx.root(gradtx.sum_of_squares(accumulator_dtype="bfloat16"))
    ),
    "own": lambda dtype: squares_in(dtype),
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", MEMBERS)
def test_a_large_finite_gradient_leaves_no_nan(name, dtype):
    tx = MEMBERS[name](dtype)
    params = jnp.ones(2)
    update = jax.jit(tx.update)
    for sizes in ((1e4, 1.0, 1.0), (-1e30, 1.0, -1.0), (0.0, 3e38, 1.0)):
        state = tx.init(params)
        for size in sizes:
            updates, state = update(jnp.array([size, 1.0], jnp.float32), state, params)
            assert not np.any(np.isnan(updates)), size
            for x in jax.tree.leaves(state):
                assert np.all(np.isfinite(np.asarray(x, "f4"))), size


def test_the_largest_numbers_are_those_of_the_dtype():
    for dtype, largest in (
        ("float16", 65504.0),
        ("float8_e4m3fn", 448.0),
        ("float8_e5m2", 57344.0),
        ("bfloat16", (2 - 2**-7) * 2.0**127),
    ):
        x = saturated(jnp.array([1e38 * 3.4, -1e38 * 3.4, 0.5], jnp.float32), jnp.dtype(dtype))
        np.testing.assert_array_equal(np.asarray(x, "f4"), np.array([largest, -largest, 0.5], "f4"))
        assert x.dtype == dtype and not x.weak_type


def test_what_is_not_finite_is_not_hidden():
    x = jnp.array([jnp.inf, -jnp.inf, jnp.nan], jnp.float32)
    low = np.asarray(saturated(x, jnp.dtype("float16")))
    np.testing.assert_array_equal(low, np.array([np.inf, -np.inf, np.nan], "f2"))
    # This dtype has no infinities, so they become NaN, and not the largest number.
    assert np.all(np.isnan(np.asarray(saturated(x, jnp.dtype("float8_e4m3fn")), "f4")))


def test_complex_numbers_saturate_in_both_parts():
    with jax.enable_x64(True):
        x = jnp.array([complex(1e300, -1e300), complex(1.0, 2.0)], "complex128")
        y = np.asarray(saturated(x, jnp.dtype("complex64")))
    largest = np.finfo("f4").max
    np.testing.assert_array_equal(y, np.array([complex(largest, -largest), 1 + 2j], "c8"))

"""`apply_updates`: dtypes, leaves without an update, and what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import PARAMS, SMALL, same, tree

from gradtx import (
    apply_updates,
)


def test_apply_updates_adds_in_the_wider_dtype_and_keeps_the_parameters_own():
    for p, u in (("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "bfloat16")):
        params, updates = tree(p, shapes=SMALL), tree(u, seed=1, shapes=SMALL)
        new = apply_updates(params, updates)
        want = jax.tree.map(
            lambda a, b: (a.astype("f4") + b.astype("f4")).astype(a.dtype), params, updates
        )
        same(new, want)
        assert {x.dtype.name for x in jax.tree.leaves(new)} == {p}
    same(
        apply_updates({"a": jnp.asarray(1 + 2j)}, {"a": jnp.asarray(1j)}),
        {"a": jnp.asarray(1 + 3j)},
    )


def test_apply_updates_passes_over_what_has_none():
    params = {"a": PARAMS, "name": "dense", "n": 3, "act": jnp.tanh, "steps": jnp.arange(2)}
    updates = {"a": {"kernel": None, "bias": PARAMS["bias"]}, "name": None, "n": None, "act": None,
               "steps": None}  # fmt: skip
    new = apply_updates(params, updates)
    same(new["a"], {"kernel": PARAMS["kernel"], "bias": 2 * PARAMS["bias"]})
    assert new["act"] is jnp.tanh and new["name"] == "dense" and new["n"] == 3


def test_apply_updates_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\).*\(3,\)"):
        apply_updates({"a": jnp.ones(3)}, {"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="do not fit"):
        apply_updates(PARAMS, {"kernel": PARAMS["kernel"]})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "float8_e3m4"])
def test_a_parameter_of_eight_bits_stops_at_its_largest_number(dtype):
    """These dtypes have a short range, and some have no infinity: the sum would become NaN."""
    largest = float(jnp.finfo(dtype).max)
    params = jnp.array([largest, -largest, 1.0, 1.0, 1.0]).astype(dtype)
    updates = jnp.array([largest, -largest, 1e30, jnp.nan, jnp.inf], jnp.float32)
    want = [largest, -largest, largest, np.nan]
    for rounding, key in (("nearest", None), ("stochastic", jax.random.key(0))):
        new = np.asarray(apply_updates(params, updates, rounding, key)).astype("f4")
        np.testing.assert_array_equal(new[:4], want)
        assert not np.isfinite(new[4]), "an infinite update is not hidden"


def numbers_of(dtype):
    """All normal numbers of a narrow dtype, both zeros, both infinities and NaN, if it has them."""
    size = jnp.dtype(dtype).itemsize
    x = np.arange(2 ** (8 * size), dtype=f"u{size}").view(jnp.dtype(dtype))
    wide = np.abs(x.astype("f4"))
    # Arithmetic on processors may take subnormal numbers of float32, and so of bfloat16, for zero.
    return x[~((wide > 0) & (wide < np.finfo("f4").tiny))]


stochastic = jax.jit(lambda p, u, key: apply_updates(p, u, "stochastic", key))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_stochastic_rounding_leaves_exact_sums_unchanged(dtype):
    params = numbers_of(dtype)
    zeros = jnp.zeros(params.shape, jnp.float32)
    new = np.asarray(stochastic(jnp.asarray(params), zeros, jax.random.key(0)))
    assert new.dtype == params.dtype
    np.testing.assert_array_equal(new.astype("f4"), params.astype("f4"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"])
def test_stochastic_rounding_takes_the_two_neighbors_and_is_right_on_average(dtype):
    finite = np.unique(numbers_of(dtype).astype("f4"))
    finite = finite[np.isfinite(finite)]
    samples = 10_000
    for p, u in ((1.0, 1e-3), (-1.0, 3e-3), (0.0, 1e-2), (0.015625, -1e-5), (-192.0, 3.3), (1, -2)):
        sums = np.float64(np.float32(p) + np.float32(u))
        lower = finite[finite <= sums].max().astype("f8")
        upper = finite[finite >= sums].min().astype("f8")
        params = jnp.full(samples, p, jnp.dtype(dtype))
        new = stochastic(params, jnp.full(samples, u, jnp.float32), jax.random.key(1))
        new = np.asarray(new).astype("f8")
        assert set(new) <= {lower, upper}
        chance = 0.0 if lower == upper else (sums - lower) / (upper - lower)
        # The number of upper neighbors is binomial. Five deviations; the key is fixed.
        deviation = (upper - lower) * np.sqrt(chance * (1 - chance) / samples)
        assert abs(new.mean() - sums) <= 5 * deviation + 1e-12


def test_stochastic_rounding_of_small_updates_moves_a_bfloat16_parameter():
    # Every one of these steps alone is rounded away. 4096 entries take 1000 steps of -1e-3 from 1.
    def body(p, key):
        u = jnp.full_like(p, -1e-3)
        return apply_updates(p, u, rounding="stochastic", key=key), None

    keys = jax.random.split(jax.random.key(0), 1000)
    start = jnp.ones(4096, jnp.bfloat16)
    end, _ = jax.jit(lambda p: jax.lax.scan(body, p, keys))(start)
    step = float(jnp.bfloat16(-1e-3))
    mean = np.asarray(end).astype("f8").mean()
    # A step deviates by at most sqrt(1e-3 * 2**-8) from its mean: 1000 steps by .06, their mean by .001.
    assert abs(mean - (1 + 1000 * step)) < 5e-3
    same(apply_updates(start, jnp.full_like(start, -1e-3)), start)


def test_stochastic_rounding_draws_for_every_leaf_and_leaves_the_others():
    params = {
        "a": jnp.ones(64, jnp.bfloat16),
        "b": jnp.ones(64, jnp.bfloat16),
        "wide": jnp.ones(3),
        "z": jnp.ones(2, jnp.complex64),
        "n": jnp.arange(2),
        "none": None,
    }
    updates = {
        "a": jnp.full(64, 3e-3),
        "b": jnp.full(64, 3e-3),
        "wide": jnp.full(3, 3e-3),
        "z": jnp.full(2, 3e-3j, jnp.complex64),
        "n": jnp.ones(2, jnp.int32),
        "none": None,
    }
    new = apply_updates(params, updates, "stochastic", jax.random.key(0))
    assert not np.array_equal(new["a"], new["b"])
    near = apply_updates(params, updates)
    for name in ("wide", "z", "n"):
        same(new[name], near[name])
    same(new, apply_updates(params, updates, "stochastic", jax.random.key(0)))


def test_stochastic_rounding_keeps_what_is_not_finite_and_never_overflows_a_number():
    largest = jnp.finfo(jnp.bfloat16).max
    p = jnp.array([jnp.inf, -jnp.inf, jnp.nan, largest, -largest], jnp.bfloat16)
    new = np.asarray(stochastic(p, jnp.zeros(5), jax.random.key(0))).astype("f4")
    np.testing.assert_array_equal(new, np.asarray(p).astype("f4"))


def test_rounding_says_what_it_needs():
    with pytest.raises(ValueError, match="needs a random key"):
        apply_updates(jnp.ones(2), jnp.ones(2), rounding="stochastic")
    with pytest.raises(ValueError, match=r"'up'.*must be"):
        apply_updates(jnp.ones(2), jnp.ones(2), rounding="up")  # pyright: ignore

"""Stochastic rounding without a key: it is right on average, and exact where nothing is rounded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from gradtx._core.random_bits import seed_of
from gradtx._core.rounding import round_by_hash, spacing, uniform_like

NARROW = "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"
STEPS = 1000


@functools.partial(jax.jit, static_argnums=1)
def rounded(x, dtype, count):
    return round_by_hash(x, dtype, seed_of(jnp.asarray(count), 0)).astype(jnp.float32)


@pytest.mark.parametrize("dtype", NARROW)
def test_the_mean_over_the_counts_is_the_number_itself(dtype):
    largest = float(jnp.finfo(dtype).max)
    x = jnp.asarray(
        np.concatenate([np.linspace(-3, 3, 301), np.geomspace(1e-3, largest, 50)]), "f4"
    )
    found = np.asarray(jax.vmap(lambda count: rounded(x, dtype, count))(jnp.arange(STEPS)), "f8")
    distance = np.asarray(spacing(jnp.asarray(found.min(0)).astype(dtype), dtype), "f8")
    assert np.all(np.abs(found - np.asarray(x)) <= 2 * distance)
    # One rounding has a deviation of at most half the distance of the neighbors: five and a half of them
    # in one of 351 means have a probability of 1e-5.
    assert np.all(np.abs(found.mean(0) - np.asarray(x)) <= 5.5 * distance / 2 / STEPS**0.5)


@pytest.mark.parametrize("dtype", NARROW)
def test_a_number_of_the_dtype_is_unchanged_and_a_finite_number_stays_finite(dtype):
    size = jnp.dtype(dtype).itemsize
    every = np.arange(2 ** (8 * size), dtype=f"u{size}").view(jnp.dtype(dtype)).astype("f4")
    every = every[~((np.abs(every) > 0) & (np.abs(every) < np.finfo("f4").tiny))]
    for count in (0, 1):
        got = np.asarray(rounded(every, dtype, count))
        np.testing.assert_array_equal(got, every)
    huge = jnp.array([3.4e38, -3.4e38, jnp.inf, jnp.nan], jnp.float32)
    got = np.asarray(rounded(huge, dtype, 3))
    largest = float(jnp.finfo(dtype).max)
    np.testing.assert_array_equal(got[:2], np.array([largest, -largest], "f4"))
    assert not np.any(np.isfinite(got[2:]))


def test_the_parts_of_a_complex_number_are_rounded_independently():
    with jax.enable_x64(True):
        x = jnp.full(4096, 1 + 2.0**-25, jnp.float64)
        z = jax.jit(lambda z: round_by_hash(z, "complex64", jnp.uint32(1)))(jax.lax.complex(x, x))
    up = np.asarray(z.real) > 1, np.asarray(z.imag) > 1
    # A quarter of the distance of two float32 numbers: the deviation of a share of 4096 is 0.007.
    assert [abs(x.mean() - 0.25) < 0.035 for x in up] == [True, True]
    assert abs((up[0] & up[1]).mean() - 1 / 16) < 0.02


def test_the_random_numbers_of_neighbors_steps_and_salts_are_uncorrelated():
    n = 64
    draw = jax.jit(lambda count: uniform_like(jnp.ones((n, n)), seed_of(count, 5)))
    u = np.asarray(jax.vmap(draw)(jnp.arange(64)))
    assert u.min() >= 0 and u.max() < 1
    centered, salted = u - 0.5, np.asarray(uniform_like(u[0], seed_of(jnp.int32(0), 6))) - 0.5
    # Products of two uniform numbers have a variance of 1/144; five deviations of a mean.
    for a, b in (
        (centered[1:], centered[:-1]),
        (centered[:, 1:], centered[:, :-1]),
        (centered[:, :, 1:], centered[:, :, :-1]),
        (centered[0], salted),
    ):
        assert abs(np.mean(a * b)) < 5 / 12 / a.size**0.5
    assert abs(centered.mean()) < 5 / 12**0.5 / u.size**0.5
    assert abs(np.mean(centered**2) - 1 / 12) < 5 / 180**0.5 / u.size**0.5


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
def test_the_sharding_of_an_array_does_not_change_its_rounding(kind):
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind), devices=jax.devices()[:4])
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("f4")
    want = rounded(x, "bfloat16", 7)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, NamedSharding(mesh, P("a", "b")))
        got = rounded(placed, "bfloat16", 7)
        assert got.sharding.spec == P("a", "b")
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize("dtype", NARROW)
def test_the_spacing_is_the_distance_to_the_next_number(dtype):
    size = jnp.dtype(dtype).itemsize
    every = np.arange(2 ** (8 * size - 1), dtype=f"u{size}").view(jnp.dtype(dtype)).astype("f4")
    every = every[np.isfinite(every) & ((every == 0) | (every >= 2.0**-118))]
    with np.errstate(under="ignore"):
        want = np.diff(np.append(every, np.nan)).astype("f4")
    got = np.asarray(spacing(jnp.asarray(every), dtype))
    first = 1 if dtype == "bfloat16" else 0  # the distance at 0 is clipped at a normal float32
    np.testing.assert_array_equal(got[first:-1], want[first:-1])
    assert np.all(got > 0) and np.all(np.isfinite(got))

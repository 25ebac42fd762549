"""Averages of gradients and of their squares against closed forms."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import normal, steps

from gradtx import (
    bias_correction,
    centered_second_moment,
    chain,
    dampened,
    rmsprop,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    second_moment,
    sum_of_squares,
)  # fmt: skip  # fmt: skip


def momentum(form="ema", b=0.9, lr=1.0, **options):
    return chain(scale_by_momentum(b, form, **options), scale_by_learning_rate(lr))


def warmup(count):
    return 0.02 * jnp.minimum(1.0, (1.0 + count) / 20.0)


def test_oracle_09_the_average_is_the_heavy_ball_at_a_smaller_rate():
    g = normal(100, 5)
    ours = steps(momentum("ema", 0.9, warmup), g)
    theirs = steps(momentum("heavy_ball", 0.9, lambda t: (1 - 0.9) * warmup(t)), g)
    assert_allclose(ours, theirs, rtol=0, atol=1e-14)
    torch = chain(scale(dampened(0.9)), scale_by_momentum(0.9, form="heavy_ball"))
    difference = steps(torch, g) - steps(scale_by_momentum(0.9), g)
    t = np.arange(1, 101)[:, None]
    assert_allclose(difference, 0.9**t * g[0], rtol=0, atol=1e-14)


def test_oracle_10_of_a_constant_and_of_a_ramp():
    t = np.arange(1.0, 201)[:, None]
    ball = steps(scale_by_momentum(0.9, form="heavy_ball"), 3 * t**0)
    assert_allclose(ball, 3 * cf.heavy_ball_gain(t, 0.9), 1e-13)
    assert_allclose(steps(scale_by_momentum(0.9), t), cf.ema_of_ramp(t, 0.9), 1e-12)


# In float32 what remains is the rounding of a hundred additions to a sum that starts at 0.
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
@pytest.mark.parametrize("b", [0.9, 0.999, 0.9999])
def test_oracle_11_corrected_average_of_a_constant_is_the_constant(b, dtype, rtol):
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    for tx in (scale_by_momentum(b), scale_by_momentum(b, form="heavy_ball")):
        assert_allclose(steps(bias_correction(tx), g, dtype=dtype), g, rtol)
    assert_allclose(steps(bias_correction(second_moment(b)), g, dtype=dtype), g**2, rtol)


def test_oracle_12_moments_of_noise():
    g = normal(100, 20_000)
    t = np.arange(1, 101)
    v = steps(second_moment(0.9), g)
    assert_allclose(v.mean(1), cf.ema_gain(t, 0.9), rtol=5 * np.sqrt(2 / 20_000))
    m = steps(scale_by_momentum(0.9), g)
    assert_allclose(m.var(1), cf.ema_variance(t, 0.9), rtol=5 * np.sqrt(2 / 20_000))
    m = steps(bias_correction(scale_by_momentum(0.9)), g)
    assert_allclose(m.var(1), cf.ema_variance(t, 0.9, debiased=True), rtol=5 * np.sqrt(2 / 20_000))


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 2.0**8), ("float16", 2.0**11)])
def test_oracle_43_a_sum_of_ones_stops_where_its_dtype_does(dtype, limit):
    start = limit - 20
    g = np.ones((40, 1))
    narrow = steps(sum_of_squares(start, accumulator_dtype=dtype), g, dtype="float32")
    # What comes out is the sum before it is rounded into the state, which stays at the limit.
    assert narrow[-1] == narrow[-15] == limit + 1
    # Unasked, the accumulator is float32, whatever the parameters.
    assert steps(sum_of_squares(start), g, dtype="float32")[-1] == limit + 20
    with jax.enable_x64(False):
        assert sum_of_squares().init(jnp.ones(3, dtype)).sum_of_squares.dtype == jnp.float32
        wide = sum_of_squares(2.0**24 - 2)
        assert steps(wide, np.ones((9, 1)), dtype="float32")[-1] == 2.0**24


@pytest.mark.parametrize("b", [0.9, 0.99, 0.999, 0.9999])
def test_B3_average_of_a_constant(b):
    for tx, t in ((scale_by_momentum(b), 20_000), (second_moment(b), 20_000)):
        error = np.abs(steps(bias_correction(tx), np.ones((t, 1)), dtype="float32") - 1)
        assert np.max(error[:100]) < 1e-6
        assert np.max(error) < 2.0**-24 / (1 - b) + 1e-6


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99])
def test_B7_centered_variance_is_never_negative(decay):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3000, 50))
    for g in (1e3 * (1 + 1e-4 * noise), 7.0 + 0 * noise, 1e-3 * noise, 1e18 * noise):
        s = steps(centered_second_moment(decay), g, dtype="float32")
        assert np.all(s >= 0)
        u = steps(rmsprop(1.0, decay, centered=True), g, dtype="float32")
        assert np.all(np.isfinite(u))
    # And it is the variance: of float64 differences, where those can be trusted.
    g = 3.0 + noise[:300]
    exact = np.stack([_variance(g[: t + 1], decay) for t in (0, 5, 299)])
    assert_allclose(steps(centered_second_moment(decay), g)[[0, 5, 299]], exact, 1e-9, 1e-13)


def _variance(g, decay):
    weights = (1 - decay) * decay ** np.arange(len(g) - 1.0, -1, -1)
    return weights @ g**2 - (weights @ g) ** 2

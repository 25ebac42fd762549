"""Averages of gradients and of their squares against closed forms, which are in `closed_forms.py`."""

from typing import Any

import closed_forms as cf
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, steps_of

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
)


def warmup(count):
    return 0.02 * jnp.minimum(1.0, (1.0 + count) / 20.0)


def test_an_average_is_the_heavy_ball_at_a_smaller_rate():
    """Both recurrences are linear, and m' = b m + (1 - b) g is 1 - b times m' = b m + g."""
    g = normal(100, 5)
    average, ball, torch, plain = steps_of(
        [
            chain(scale_by_momentum(0.9, "ema"), scale_by_learning_rate(warmup)),
            chain(
                scale_by_momentum(0.9, "heavy_ball"),
                scale_by_learning_rate(lambda t: (1 - 0.9) * warmup(t)),
            ),
            # PyTorch's buffer starts as the first gradient, not dampened.
            chain(scale(dampened(0.9)), scale_by_momentum(0.9, form="heavy_ball")),
            scale_by_momentum(0.9),
        ],
        g,
    )
    # Three roundings per step, remembered for 1 / (1 - b) steps, on either side.
    error = roundings(2 * 3 / (1 - 0.9))
    assert_allclose(average, ball, rtol=0, atol=error * np.abs(ball).max())
    t = np.arange(1, 101)[:, None]
    assert_allclose(torch - plain, 0.9**t * g[0], rtol=0, atol=error * np.abs(torch).max())


def test_momentum_of_a_constant_and_of_a_ramp():
    """The sums over b^k and over k b^k, which are geometric."""
    t = np.arange(1.0, 201)[:, None]
    constant, ramp = 3 * t**0, t
    ball, average = steps_of(
        [scale_by_momentum(0.9, form="heavy_ball"), scale_by_momentum(0.9)],
        np.hstack([constant, ramp]),
    )
    # All terms are positive. The closed form of the ramp starts as 1 - 0.9, which loses a digit.
    assert_allclose(ball[:, :1], 3 * cf.heavy_ball_gain(t, 0.9), roundings(6 / (1 - 0.9)))
    assert_allclose(average[:, 1:], cf.ema_of_ramp(t, 0.9), roundings(10 / (1 - 0.9)))


@pytest.mark.parametrize(("dtype", "n"), [("float64", 100), ("float32", 20_000)])
def test_a_constant_comes_out_of_bias_correction_unchanged(dtype, n):
    """Kingma and Ba (2015), arXiv:1412.6980, section 3: the average of a constant is 1 - b^t of it."""
    constant = np.array([0.1, -7.0, 1e5]).astype(dtype).astype("float64")
    g, t = np.full((n, 3), constant), np.arange(1, n + 1)[:, None]
    for b in (0.9, 0.99, 0.999, 0.9999):
        # Three roundings per step and that of b itself, as long as they are remembered; in a division
        # and a square there are a few more.
        error = roundings(4 * (1 - b**t) / (1 - b) + 10, dtype)
        moments = scale_by_momentum(b), scale_by_momentum(b, form="heavy_ball"), second_moment(b)
        means = steps_of(map(bias_correction, moments), g, dtype=dtype)
        for mean, want in zip(means, (constant, constant, constant**2), strict=True):
            assert np.all(np.abs(mean / want - 1) <= error), b


def test_moments_of_noise_have_the_mean_and_the_variance_of_their_weights():
    """Sums of independent numbers: Var sum w_i g_i = sum w_i^2, with w_i = (1 - b) b^(t - i)."""
    n = 20_000
    g, t = normal(100, n), np.arange(1, 101)
    square, average, corrected = steps_of(
        [second_moment(0.9), scale_by_momentum(0.9), bias_correction(scale_by_momentum(0.9))], g
    )
    # A mean of n squares, or a variance of n, has a deviation of sqrt(2 / n): five of them.
    error = 5 * np.sqrt(2 / n)
    assert_allclose(square.mean(1), cf.ema_gain(t, 0.9), error)
    assert_allclose(average.var(1), cf.ema_variance(t, 0.9), error)
    assert_allclose(corrected.var(1), cf.ema_variance(t, 0.9, debiased=True), error)


def test_a_sum_of_ones_stops_where_float32_does():
    """At 2^24, where 2^24 + 1 rounds to 2^24 again, whatever the dtype of the parameters."""
    sums: Any = steps_of(
        [sum_of_squares(2.0**8 - 20), sum_of_squares(2.0**11 - 20), sum_of_squares(2.0**24 - 20)],
        np.ones((40, 1)),
        dtype="float32",
    )
    assert [x[-1] for x in sums] == [2.0**8 + 20, 2.0**11 + 20, 2.0**24]
    assert sums[2][-15] == 2.0**24
    for dtype in ("bfloat16", "float16"):
        assert sum_of_squares().init(jnp.ones(3, dtype)).sum_of_squares.dtype == jnp.float32


def test_the_centered_second_moment_is_a_variance_and_never_negative():
    """Welford (1962): it is summed from squares, where E g^2 - (E g)^2 subtracts two large numbers."""
    decays, noise = (0.0, 0.5, 0.9, 0.99), np.random.default_rng(0).normal(size=(3000, 50))
    g = np.hstack([1e3 * (1 + 1e-4 * noise), 7.0 + 0 * noise, 1e-3 * noise, 1e18 * noise])
    variances = [centered_second_moment(decay) for decay in decays]
    quotients = [rmsprop(1.0, decay, centered=True) for decay in decays]
    updates = steps_of([*variances, *quotients], g, dtype="float32")
    assert np.all(np.isfinite(updates))
    assert np.all(np.stack(updates[: len(decays)]) >= 0)
    # And it is the variance: the difference, in float64, where it can be trusted.
    g = 3.0 + noise[:300]
    for decay, variance in zip(decays, steps_of(variances, g), strict=True):
        for n in (1, 6, 300):
            weights = (1 - decay) * decay ** np.arange(n - 1.0, -1, -1)
            exact = weights @ g[:n] ** 2 - (weights @ g[:n]) ** 2
            # Two sums of up to 300 products, of numbers up to the largest square.
            error = roundings(3 * 300) * np.max(g**2)
            assert_allclose(variance[n - 1], exact, rtol=0, atol=error)

"""Second moments with fewer numbers than entries, against the papers' recursions. In float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose
from references import recurrence
from rounding import roundings
from runs import normal, run, run_all, steps

from gradtx import bias_correction, factored_second_moment, scale_by_factored_rms

STEPS, SHAPE = 30, (4, 3)
# The sizes of the gradients fall, so that averages of every length differ from the last square.
GRADIENTS = normal(STEPS, *SHAPE) * np.geomspace(1, 0.1, STEPS)[:, None, None]
# A dozen operations per step, of which an average with decay 0.99 keeps those of 100 steps.
ERROR = roundings(12 * 100)


def factored(s, key, x, b):
    """Shazeer & Stern (2018), arXiv:1804.04235, algorithm 2, with means in place of sums."""
    row, col = s.get(key + "r", 0.0), s.get(key + "c", 0.0)
    row = s[key + "r"] = b * row + (1 - b) * x.mean(-1, keepdims=True)
    col = s[key + "c"] = b * col + (1 - b) * x.mean(-2, keepdims=True)
    return row, col


def estimate(row, col, least=0.0):
    return row * col / np.maximum(row.mean(-2, keepdims=True), least)


@recurrence
def moment(s, grad, x, t, *, b, eps=0.0):
    return estimate(*factored(s, "", grad(x) ** 2 + eps, b))


def test_the_estimate_is_that_of_the_recursion_and_its_correction_is_that_of_an_average():
    tx = factored_second_moment(0.99, 0.0, 1, "last")
    plain, corrected = (u for u, _ in run_all([tx, bias_correction(tx)], GRADIENTS))
    want = np.stack(moment(GRADIENTS, np.zeros(SHAPE), b=0.99))
    assert_allclose(plain, want, ERROR)
    gain = 1 - 0.99 ** np.arange(1, STEPS + 1)
    assert_allclose(corrected, want / gain[:, None, None], 2 * ERROR)


def test_the_estimate_of_a_product_is_exact_and_its_sums_along_both_axes_always_are():
    g, full = GRADIENTS, factored_second_moment(0.9, 0.0, 1, "none")
    products = np.abs(normal(1, 4, 1)) * normal(STEPS, 1, 3)  # the factor of a row does not change
    for rows, exact in ((g, False), (products, True)):
        (u, _), (v, _) = run_all([factored_second_moment(0.9, 0.0, 1), full], rows)
        for axis in (1, 2):
            assert_allclose(u.sum(axis), v.sum(axis), ERROR)
        assert np.allclose(u, v, ERROR) == exact


def test_the_axes_are_the_longest_or_the_last_and_long_enough():
    def shapes(shape, least, axes):
        tx = factored_second_moment(0.9, 0.0, least, axes)
        return [x.shape for x in tx.init(jnp.zeros(shape))]

    assert shapes((5, 2, 3), 1, "largest") == [(2, 3), (5, 2), (1,)]
    assert shapes((5, 2, 3), 1, "last") == [(5, 2), (5, 3), (1,)]
    assert shapes((5, 2, 3), 4, "largest") == [(1,), (1,), (5, 2, 3)]
    assert shapes((5, 2, 3), 1, "none") == [(1,), (1,), (5, 2, 3)]
    assert shapes((5,), 1, "largest") == [(1,), (1,), (5,)]


def test_its_state_and_its_updates_are_those_of_optax():
    p = {"tall": np.zeros((4, 3)), "deep": np.zeros((2, 3, 3)), "short": np.zeros((1, 3))}
    rows = {k: normal(STEPS, *x.shape) for k, x in p.items()}
    # Optax computes the decay in float32, so here it gets one of float64.
    theirs = optax.scale_by_factored_rms(
        min_dim_size_to_factor=2, decay_rate_fn=lambda i, c: 1 - (1.0 + i.astype("f8")) ** -c
    )
    ours = scale_by_factored_rms(min_dim_size_to_factor=2)
    (u, _), (want, _) = run_all([ours, theirs], rows, p)
    for k in p:
        assert_allclose(u[k], want[k], ERROR)
    states = [tx.init(jax.tree.map(jnp.float32, p)) for tx in (ours, theirs)]
    assert jax.tree.map(jnp.shape, states[0]) == jax.tree.map(jnp.shape, states[1])


def test_a_least_length_below_1_is_refused():
    with pytest.raises(ValueError, match="whole number, 1 or more"):
        factored_second_moment(min_dim_size_to_factor=0)


def test_the_sum_of_the_largest_squares_does_not_overflow():
    u = steps(
        factored_second_moment(0.9, min_dim_size_to_factor=1),
        np.full((3, 40, 40), 3e38),
        dtype="float32",
    )
    assert np.all(np.isfinite(u)) and np.all(u > 1e36)


def test_it_is_a_moment_of_complex_numbers_by_their_absolute_values():
    g = normal(2, 3, 4) + 1j * normal(2, 3, 4)[::-1]
    (u, _), (v, _) = (
        run(factored_second_moment(0.9, 0.0, 1), x, dtype=dtype)
        for x, dtype in ((g, "complex128"), (np.abs(g), "float64"))
    )
    assert_allclose(u, v, roundings(30))

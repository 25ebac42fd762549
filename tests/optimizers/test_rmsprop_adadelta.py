"""RMSProp and AdaDelta against closed forms. In float64."""

import closed_forms as cf
import numpy as np
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, steps, steps_of

from gradtx import adadelta, rmsprop, scale_by_adam, scale_by_rms


def test_rmsprop_under_a_constant_gradient():
    """Hinton (2012), lecture 6e: the average of a constant square is 1 - b^t of it, not corrected."""
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    t = np.arange(1, 101)[:, None]
    u = steps(rmsprop(1.0, 0.9, eps=0.0), g)
    # Three roundings per step for 1 / (1 - b) steps, of which the root takes half, and a few more. The
    # closed form subtracts 0.9^t from 1, which loses a digit.
    error = roundings(2 * 3 / (1 - 0.9))
    assert_allclose(u, -np.sign(g) * cf.rmsprop_constant_step(t, 0.9), error)
    assert_allclose(np.abs(u[0]), np.sqrt(10), error)


def test_corrected_rmsprop_is_adam_without_momentum():
    """With b1 = 0 the first moment is the gradient, and what is left is the same quotient."""
    g = normal(100, 5)
    ours, adams = steps_of(
        [
            scale_by_rms(0.99, eps_in_sqrt=False, bias_correction=True),
            scale_by_adam(0.0, 0.99),
        ],
        g,
    )
    # The averages are the same; corrections, roots and quotients are a dozen roundings.
    assert_allclose(ours, adams, roundings(24))


def test_adadelta_starts_at_epsilon_and_grows():
    """Zeiler (2012), arXiv:1212.5701, Algorithm 1, from an average of steps that is zero."""
    g = np.array([1e-4, 0.1, -3.0, 1e5])
    long = np.full((4000, 5), [*g, 5.0])
    u = steps(adadelta(), long)
    assert_allclose(u[0, :4], cf.adadelta_first_step(g, 0.9, 1e-6), roundings(12))
    ratio = np.abs(u[:, 4]) / cf.adadelta_growth(np.arange(1, 4001), 0.9, 1e-6)
    # A limit: how near it is at these steps, not how well it is rounded.
    assert_allclose(ratio[499], 1.10, atol=0.01)
    assert_allclose(ratio[-1], 1, 0.02)


def test_adadelta_has_the_units_of_the_root_of_epsilon():
    # x -> c x takes g -> g / c. Epsilon is the square of an x in one root and of a g in the other, so
    # that one number cannot keep the units of both. (Two could; AdaDelta has one.)
    c = 2.0**7  # a power of two, which multiplies without rounding
    g = normal(50, 4)
    small, plain, large = (steps(adadelta(eps=1e-6), g * x) for x in (1 / c, 1.0, c))
    assert np.max(np.abs(small / c - plain)) > 0.9 * np.max(np.abs(plain))
    # The units that it does have are those of the root of epsilon.
    both = steps(adadelta(eps=1e-6 * c**2), g * c)
    np.testing.assert_array_equal(both, c * plain)
    assert np.max(np.abs(large - c * plain)) > 0.9 * np.max(np.abs(large))

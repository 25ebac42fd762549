"""RMSProp and AdaDelta against closed forms."""

import closed_forms as cf
import numpy as np
from numpy.testing import assert_allclose
from runs import normal, steps

from gradtx import (
    adadelta,
    rmsprop,
    scale_by_adam,
    scale_by_rms,
)  # fmt: skip


def test_oracle_17_rmsprop_under_a_constant_gradient():
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    t = np.arange(1, 101)[:, None]
    u = steps(rmsprop(1.0, 0.9, eps=0.0), g)
    assert_allclose(u, -np.sign(g) * cf.rmsprop_constant_step(t, 0.9), 1e-13)
    assert_allclose(np.abs(u[0]), 3.1623, 1e-5)


def test_oracle_18_corrected_rmsprop_is_adam_without_momentum():
    g = normal(100, 5)
    ours = steps(scale_by_rms(0.99, eps_in_sqrt=False, bias_correction=True), g)
    assert_allclose(ours, steps(scale_by_adam(0.0, 0.99), g), 1e-14)


def test_oracle_26_adadelta_starts_at_epsilon_and_grows():
    g = np.array([1e-4, 0.1, -3.0, 1e5])
    u = steps(adadelta(), g[None])
    assert_allclose(u[0], cf.adadelta_first_step(g, 0.9, 1e-6), 1e-13)
    u = np.abs(steps(adadelta(), np.full((4000, 1), 5.0)))
    ratio = u / cf.adadelta_growth(np.arange(1, 4001)[:, None], 0.9, 1e-6)
    assert_allclose(ratio[499], 1.10, atol=0.01)
    assert_allclose(ratio[-1], 1, 0.02)


def test_oracle_27_adadelta_keeps_the_units_only_if_epsilon_scales_with_them():
    # x -> c x takes g -> g / c. Epsilon is the square of an x in the one root and of a g in the other,
    # so one number cannot keep the units of both. (Two could; AdaDelta has one.)
    g, c = normal(50, 4), 100.0
    broken = steps(adadelta(eps=1e-6), g / c) / c - steps(adadelta(eps=1e-6), g)
    assert np.max(np.abs(broken)) > 0.9 * np.max(np.abs(steps(adadelta(), g)))
    # What it does have is the units of the root of epsilon.
    both = steps(adadelta(eps=1e-6 * c**2), g * c)
    assert_allclose(both, c * steps(adadelta(eps=1e-6), g), 1e-12)

"""What gradient descent, the heavy ball and Nesterov's method do on quadratic losses."""

import closed_forms as cf
import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import normal, points, run, step_matrix

from gradtx import (
    sgd,
)  # fmt: skip

MU, L = 1.0, 100.0


CURVATURES = np.linspace(MU, L, 7)


ONES = np.ones(CURVATURES.shape)


def quadratic(x):
    return CURVATURES * x


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-5)])
def test_oracle_01_gradient_descent_contracts_by_one_minus_rate_times_curvature(dtype, rtol):
    e = points(sgd(0.005), lambda x: CURVATURES.astype(dtype) * x, ONES, 50, dtype=dtype)
    assert_allclose(e, [cf.gd_error(t, 0.005, CURVATURES) for t in range(51)], rtol)


def test_oracle_02_best_rate_contracts_both_ends_alike():
    lr, factor = cf.gd_best(MU, L)
    e = points(sgd(lr), quadratic, ONES, 50)
    assert_allclose(e[1:, 0] / e[:-1, 0], factor, 1e-13)
    assert_allclose(e[1:, -1] / e[:-1, -1], -factor, 1e-13)


def test_oracle_03_heavy_ball_is_a_recurrence_of_two_terms():
    lr, b = 0.01, 0.9
    e = points(sgd(lr, b), quadratic, ONES, 60)
    before = np.concatenate([e[:1], e[:-2]])
    assert_allclose(e[1:], (1 + b - lr * CURVATURES) * e[:-1] - b * before, rtol=0, atol=1e-14)


def test_oracle_04_heavy_ball_rings_with_its_period():
    lr, b, _ = cf.heavy_ball_best(MU, L)
    inside = CURVATURES[1:-1]
    e = points(sgd(lr, b), lambda x: inside * x, inside**0, 100)
    t = np.arange(101)[:, None]
    assert_allclose(e, cf.heavy_ball_error(t, lr, b, inside), rtol=0, atol=1e-13)
    # Seen as what it is: at curvature 3 the sign changes twice in 22.028 steps.
    e = points(sgd(lr, b), lambda x: 3.0 * x, np.ones(()), 400)
    changes = np.flatnonzero(np.diff(np.sign(e)))
    assert_allclose(2 * (changes[-1] - changes[0]) / (len(changes) - 1), 22.028, 0.01)
    assert_allclose(2 * np.pi / cf.heavy_ball_angle(lr, b, 3.0), 22.028, 1e-4)


def test_oracle_05_best_heavy_ball_has_roots_of_one_modulus_double_at_the_ends():
    lr, b, modulus = cf.heavy_ball_best(MU, L)
    for curvature in (1.5, 3.0, 50.0):
        a, _ = step_matrix(sgd(lr, b), curvature)
        assert_allclose(np.abs(np.linalg.eigvals(a)), modulus, 1e-12)
    e = points(sgd(lr, b), lambda x: np.array([MU, L]) * x, np.ones(2), 100)
    t = np.arange(101)
    for i, z in enumerate((modulus, -modulus)):
        assert_allclose(e[:, i], cf.heavy_ball_error_double_root(t, z), rtol=0, atol=1e-12)


def test_oracle_06_nesterov_is_a_recurrence_of_two_terms_on_the_shifted_iterate():
    lr, b = 0.005, 0.8
    phi = points(sgd(lr, b, nesterov=True), quadratic, ONES, 60)
    assert_allclose(phi[1], 1 - lr * CURVATURES * (1 + b), 1e-14)
    shrink = 1 - lr * CURVATURES
    want = (1 + b) * shrink * phi[1:-1] - b * shrink * phi[:-2]
    assert_allclose(phi[2:], want, rtol=0, atol=1e-13)


def test_oracle_07_nesterov_contracts_at_its_known_rates():
    kappa = L / MU
    scan = np.linspace(MU, L, 2001)
    lr, b, best = cf.nesterov_best(MU, L)
    textbook = 1 / L, (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    for (rate, decay), want in ((textbook, 1 - 1 / np.sqrt(kappa)), ((lr, b), best)):
        assert_allclose(cf.nesterov_rate(rate, decay, scan), want, 1e-6)
        tx = sgd(rate, decay, nesterov=True)
        assert_allclose(max(_radius(step_matrix(tx, c)[0]) for c in (MU, L)), want, 1e-6)
    near = [cf.nesterov_rate(lr * x, b, scan) for x in (0.99, 1.01)]
    near += [cf.nesterov_rate(lr, b * x, scan) for x in (0.99, 1.01)]
    assert min(near) > best


def _radius(a):
    return np.max(np.abs(np.linalg.eigvals(a)))


@pytest.mark.parametrize("b", [None, 0.5, 0.9])
def test_oracle_34_noise_floor_on_a_quadratic(b):
    lr, curvature = 0.02, 7.0
    a, noise = step_matrix(sgd(lr, b), curvature)
    # The variance that a step leaves as it is: V = A V A^T + B B^T.
    n = len(a)
    vec = np.linalg.solve(np.eye(n * n) - np.kron(a, a), np.outer(noise, noise).ravel())
    assert_allclose(vec[0], cf.stationary_variance(lr, b or 0.0, curvature, 1.0), 1e-11)
    rows = normal(400, 4000)
    _, theta = run(_noisy(lr, b, curvature), rows, np.zeros(4000))
    assert_allclose(theta[-1].var(), vec[0], 0.1)


def _noisy(lr, b, curvature):
    """Gradients given as noise; the loss's own part is an L2 penalty of its curvature."""
    return sgd(lr, b, weight_decay=curvature)

"""What gradient descent, the heavy ball and Nesterov's method do on quadratic losses.

Errors and points are float64 unless a test says otherwise, every iterate starts at 1, and so an error
is a number of size 1 or less. `closed_forms.py` has the formulas and their sources.
"""

import closed_forms as cf
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, points, points_of, run_all, step_matrices

from gradtx import sgd

MU, L = 1.0, 100.0
CURVATURES = np.linspace(MU, L, 7)
ONES = np.ones(CURVATURES.shape)


def quadratic(x):
    return CURVATURES.astype(x.dtype) * x


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradient_descent_contracts_by_one_minus_rate_times_curvature(dtype):
    """Unrolling theta' = theta - lr c theta gives theta_t = (1 - lr c)^t theta_0."""
    e = points(sgd(0.005), quadratic, ONES, 50, dtype=dtype)
    # Three roundings per step, and the rate's own; the closed form has as many.
    want = [cf.gd_error(t, 0.005, CURVATURES) for t in range(51)]
    assert_allclose(e, want, roundings(2 * 4 * 50, dtype))


def test_the_best_rate_contracts_both_ends_of_the_spectrum_equally():
    """lr = 2 / (mu + L) solves 1 - lr mu = -(1 - lr L); Nesterov (2004), Theorem 2.1.15."""
    lr, factor = cf.gd_best(MU, L)
    e = points(sgd(lr), quadratic, ONES, 50)
    # At L the rate times the curvature is 2 nearly: its two roundings count twice.
    assert_allclose(e[1:, 0] / e[:-1, 0], factor, roundings(10))
    assert_allclose(e[1:, -1] / e[:-1, -1], -factor, roundings(10))


def test_the_heavy_ball_is_a_recurrence_of_two_terms():
    """Polyak (1964): e'' = (1 + b - lr c) e' - b e, from which the momentum is eliminated."""
    lr, b = 0.01, 0.9
    e = points(sgd(lr, b), quadratic, ONES, 60)
    before = np.concatenate([e[:1], e[:-2]])
    want = (1 + b - lr * CURVATURES) * e[:-1] - b * before
    assert_allclose(e[1:], want, rtol=0, atol=roundings(20) * np.abs(e).max())


def test_the_heavy_ball_rings_with_the_period_of_its_complex_roots():
    """Its roots are sqrt(b) exp(+-i phi), so that the error rings with period 2 pi / phi."""
    lr, b, _ = cf.heavy_ball_best(MU, L)
    inside = CURVATURES[1:-1]
    ringing, long = (
        points(sgd(lr, b), lambda x, c=c: c * x, np.ones(c.shape), n)
        for c, n in ((inside, 100), (np.array(3.0), 400))
    )
    t = np.arange(101)[:, None]
    # What a step's ten roundings make is an error of the same kind: a ringing that fades by sqrt(b)
    # per step, from 1 / sin(phi) times its size. The closed form errs by as much.
    fading = (1 - np.sqrt(b)) * np.sin(cf.heavy_ball_angle(lr, b, inside)).min()
    want = cf.heavy_ball_error(t, lr, b, inside)
    assert_allclose(ringing, want, rtol=0, atol=roundings(2 * 10 / fading))
    # Seen as what it is: at curvature 3 the sign changes twice in 22.028 steps, and where the first
    # and the last change lie is known to half a step each.
    changes = np.flatnonzero(np.diff(np.sign(long)))
    period = 2 * np.pi / cf.heavy_ball_angle(lr, b, 3.0)
    half_periods = len(changes) - 1
    assert_allclose((changes[-1] - changes[0]) / half_periods, period / 2, atol=1 / half_periods)
    assert_allclose(period, 22.028, atol=5e-4)


def test_the_best_heavy_ball_has_roots_of_one_modulus_that_are_double_at_the_ends():
    """Polyak (1964): lr = 4 / (sqrt(L) + sqrt(mu))^2 and b the square of the modulus, which is
    (sqrt(L) - sqrt(mu)) / (sqrt(L) + sqrt(mu))."""
    lr, b, modulus = cf.heavy_ball_best(MU, L)
    for a, _ in step_matrices(sgd(lr, b), (1.5, 3.0, 50.0)):
        roots, vectors = np.linalg.eig(a)
        # Bauer and Fike (1960): a root moves by the error of the matrix times this condition number.
        error = roundings(20) * np.linalg.norm(a) * np.linalg.cond(vectors)
        assert_allclose(np.abs(roots), modulus, rtol=0, atol=error)
    e = points(sgd(lr, b), lambda x: np.array([MU, L]) * x, np.ones(2), 100)
    t = np.arange(101)
    # Eight roundings per step of numbers up to lr L. At a double root z one of them grows as t z^t, in
    # sum to 1 / (1 - z)^2.
    error = roundings(8 * lr * L / (1 - modulus) ** 2)
    for i, z in enumerate((modulus, -modulus)):
        assert_allclose(e[:, i], cf.heavy_ball_error_double_root(t, z), rtol=0, atol=error)


def test_nesterov_is_a_recurrence_of_two_terms_on_the_shifted_iterate():
    """phi'' = (1 + b)(1 - lr c) phi' - b (1 - lr c) phi, from which the momentum is eliminated."""
    lr, b = 0.005, 0.8
    phi = points(sgd(lr, b, nesterov=True), quadratic, ONES, 60)
    assert_allclose(phi[1], 1 - lr * CURVATURES * (1 + b), rtol=0, atol=roundings(8))
    shrink = 1 - lr * CURVATURES
    want = (1 + b) * shrink * phi[1:-1] - b * shrink * phi[:-2]
    assert_allclose(phi[2:], want, rtol=0, atol=roundings(30))


def test_nesterov_contracts_at_its_known_rates():
    """The textbook's numbers contract by 1 - 1 / sqrt(kappa); the best ones for quadratics are those of
    Lessard, Recht and Packard (2016), arXiv:1408.3595, Proposition 1."""
    kappa = L / MU
    scan = np.linspace(MU, L, 2001)
    lr, b, best = cf.nesterov_best(MU, L)
    textbook = 1 / L, (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    # The largest root is a double one, and the square root of what its discriminant is off by remains.
    error = np.sqrt(roundings(20) * L)
    for (rate, decay), want in ((textbook, 1 - 1 / np.sqrt(kappa)), ((lr, b), best)):
        assert_allclose(cf.nesterov_rate(rate, decay, scan), want, error)
        matrices = step_matrices(sgd(rate, decay, nesterov=True), (MU, L))
        radius = max(np.max(np.abs(np.linalg.eigvals(a))) for a, _ in matrices)
        assert_allclose(radius, want, error)
    near = [cf.nesterov_rate(lr * x, b, scan) for x in (0.99, 1.01)]
    near += [cf.nesterov_rate(lr, b * x, scan) for x in (0.99, 1.01)]
    assert min(near) > best


def test_noise_has_a_floor_on_a_quadratic():
    """The variance that a step leaves as it is solves V = A V A^T + B B^T (Lyapunov's equation)."""
    lr, curvature, decays, size = 0.02, 7.0, (None, 0.5, 0.9), 4000
    # Gradients are given as noise; the loss's own part is an L2 penalty of its curvature.
    noisy = [sgd(lr, b, weight_decay=curvature) for b in decays]
    rows = normal(400, size)
    for b, (_, theta) in zip(decays, run_all(noisy, rows, np.zeros(size)), strict=True):
        ((a, noise),) = step_matrices(sgd(lr, b), (curvature,))
        n = len(a)
        system = np.eye(n * n) - np.kron(a, a)
        variance = np.linalg.solve(system, np.outer(noise, noise).ravel())[0]
        want = cf.stationary_variance(lr, b or 0.0, curvature, 1.0)
        assert_allclose(variance, want, roundings(50) * np.linalg.cond(system))
        # The variance of a sample has a standard deviation of sqrt(2 / size); five of them.
        assert_allclose(theta[-1].var(), variance, 5 * np.sqrt(2 / size))


def test_a_penalty_is_a_decay_for_sgd_and_not_with_momentum():
    """g + w theta is what the gradient of a penalty adds; without momentum both are one sum."""
    coupled, decoupled, ball, decoupled_ball = points_of(
        [
            sgd(0.005, momentum, weight_decay=0.5, decoupled=decoupled)
            for momentum in (None, 0.9)
            for decoupled in (False, True)
        ],
        quadratic,
        ONES,
        50,
    )
    assert_allclose(coupled[-1], decoupled[-1], rtol=0, atol=roundings(5 * 50))
    assert np.max(np.abs(ball[-1] - decoupled_ball[-1])) > 1e-3

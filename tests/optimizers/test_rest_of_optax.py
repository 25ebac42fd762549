"""AdaBelief, Adamax, RAdam, Yogi, noisy SGD and MARS with Muon, against their papers in float64."""

import numpy as np
import pytest
from rounding import roundings
from runs import normal, run_all, steps

import gradtx

STEPS, RATE, B1, B2, EPS = 20, 0.1, 0.8, 0.9, 1e-3


def adabelief(g, s, t):
    """Zhuang et al. (2020), algorithm 2."""
    s.m = B1 * s.m + (1 - B1) * g
    s.v = B2 * s.v + (1 - B2) * (g - s.m) ** 2 + 1e-4
    return s.m / (1 - B1**t) / (np.sqrt(s.v / (1 - B2**t)) + EPS)


def adamax(g, s, t):
    """Kingma & Ba (2014), algorithm 2, with the epsilon of Optax."""
    s.m = B1 * s.m + (1 - B1) * g
    s.v = np.maximum(B2 * s.v, np.abs(g) + EPS)
    return s.m / (1 - B1**t) / s.v


def radam(g, s, t):
    """Liu et al. (2019), algorithm 2, with a step of Adam for more than 5 terms, as in their code."""
    s.m, s.v = B1 * s.m + (1 - B1) * g, B2 * s.v + (1 - B2) * g**2
    last = 2 / (1 - B2) - 1
    now = last - 2 * t * B2**t / (1 - B2**t)
    if now < 5:
        return s.m / (1 - B1**t)
    r = np.sqrt((now - 4) * (now - 2) * last / ((last - 4) * (last - 2) * now))
    return s.m / (1 - B1**t) * r / (np.sqrt(s.v / (1 - B2**t)) + EPS)


def yogi(g, s, t):
    """Zaheer et al. (2018), algorithm 2, with corrections of both biases and v_0 = 1e-6."""
    v = s.v if t > 1 else np.full_like(g, 1e-6)
    s.m, s.v = B1 * s.m + (1 - B1) * g, v - (1 - B2) * np.sign(v - g**2) * g**2
    return s.m / (1 - B1**t) / (np.sqrt(s.v / (1 - B2**t)) + EPS)


CASES = {
    "adabelief": (gradtx.adabelief(RATE, B1, B2, EPS, 1e-4), adabelief),
    "adamax": (gradtx.adamax(RATE, B1, B2, EPS), adamax),
    "radam": (gradtx.radam(RATE, B1, B2, EPS), radam),
    "yogi": (gradtx.yogi(RATE, B1, B2, EPS), yogi),
}


class Averages:
    m = v = np.zeros(4)


def test_an_optimizer_follows_the_recursion_of_its_paper():
    gradients = normal(STEPS, 4) * np.array([1.0, 1e-3, 30.0, 0.1])
    seen = run_all([tx for tx, _ in CASES.values()], gradients)
    for (name, (_, step)), (updates, _) in zip(CASES.items(), seen, strict=True):
        own = Averages()
        for t, g in enumerate(gradients, 1):
            # Some twenty operations per step, which averages remember for ten steps, and differences
            # of terms that are at most a hundred times larger.
            tolerance = roundings(20 * 10 * 100)
            want = -RATE * step(g, own, t)
            np.testing.assert_allclose(updates[t - 1], want, tolerance, 0, err_msg=name)


@pytest.mark.parametrize("gamma", [0.0, 0.55])
def test_the_noise_has_the_variance_of_its_paper(gamma):
    """Neelakantan et al. (2015), eq. 1: the variance in step t is eta / t^gamma, and 0 for eta = 0."""
    g = normal(9, 4000)
    still = steps(gradtx.noisy_sgd(RATE, eta=0.0, gamma=gamma), g)
    np.testing.assert_allclose(still, -RATE * g, roundings(4))
    noise = steps(gradtx.noisy_sgd(RATE, eta=0.3, gamma=gamma, key=1), g) / -RATE - g
    for t, x in enumerate(noise, 1):
        # Four standard deviations of the mean, and of the mean square, of 4000 normal numbers.
        assert abs(np.mean(x)) < 4 * np.std(x) / 4000**0.5
        np.testing.assert_allclose(np.mean(x**2), 0.3 / t**gamma, 4 * (2 / 4000) ** 0.5)
    both = np.corrcoef(noise[0], noise[1])[0, 1]
    assert abs(both) < 4 / 4000**0.5


@pytest.mark.parametrize("from_zero", [False, True])
def test_mars_orthogonalizes_the_momentum_of_its_gradients(from_zero):
    """Yuan et al. (2024), algorithm 4, with polynomials in place of the polar factor."""
    gradients, gamma, b1 = normal(8, 3, 4), 0.1, 0.9
    tx = gradtx.mars(RATE, b1, gamma=gamma, variant="muon", from_zero=from_zero)
    before, m = np.zeros((3, 4)) if from_zero else gradients[0], 0.0
    for g, u in zip(gradients, steps(tx, gradients), strict=True):
        c = g + gamma * b1 / (1 - b1) * (g - before)
        m = b1 * m + (1 - b1) * c / max(1.0, np.linalg.norm(c))
        before = g
        # The polynomials bring singular values close to 1, and keep the singular vectors.
        left, _, right = np.linalg.svd(m, full_matrices=False)
        turned = left.T @ (u / -RATE) @ right.T / max(1, 4 / 3) ** 0.5
        np.testing.assert_allclose(turned, np.eye(3), rtol=0, atol=0.2)
        np.testing.assert_allclose(turned, np.diag(np.diag(turned)), rtol=0, atol=1e-9)

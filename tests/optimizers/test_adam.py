"""Adam and its kin against closed forms and what their papers prove. In float64, unless said."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, rng, steps, steps_of

from gradtx import adam, amsgrad


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_first_step_is_a_sign_softened_by_epsilon(dtype):
    """Kingma and Ba (2015), arXiv:1412.6980, Algorithm 1 at t = 1, where the corrections undo 1 - b:
    -g / (|g| + eps); with the end of their section 2 epsilon is divided by sqrt(1 - b2)."""
    g = np.array([1e-8, -1e-3, 1.0, 1e4]).astype("f4").astype("f8")
    decays = [(0.9, 0.999), (0.5, 0.9), (0.0, 0.9999), (0.99, 0.99999)]
    plain = steps_of([adam(1.0, *b) for b in decays], g[None], dtype=dtype)
    hats = steps_of([adam(1.0, *b, eps_hat=True) for b in decays], g[None], dtype=dtype)
    # Some sixteen operations, two of them an expm1 that may be off by two units in the last place.
    error = roundings(16 + 2 * 4, dtype)
    for (_, b2), u, hat in zip(decays, plain, hats, strict=True):
        assert_allclose(u[0], cf.adam_first_step(g, 1e-8), error)
        assert_allclose(hat[0], cf.adam_first_step_eps_hat(g, b2, 1e-8), error)


def test_a_constant_gradient_gives_steps_of_the_rate():
    """Corrected averages of a constant are the constant and its square."""
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    # Three roundings per step, for ten steps in the mean and for all hundred in the square, whose root
    # takes half.
    error = roundings(3 * 10 + 3 * 100 / 2 + 20)
    for u in steps_of([adam(1.0, eps=0.0), amsgrad(1.0, eps=0.0)], g):
        assert_allclose(u, -np.sign(g), error)


def test_the_bound_on_a_step_holds_and_is_attained():
    """Cauchy and Schwarz: |sum w_i g_i| <= sqrt(sum w_i^2 / v_i) sqrt(sum v_i g_i^2), with equality for
    gradients in proportion to w_i / v_i. Kingma and Ba, section 2.1, have a cruder one."""
    decays, n = [(0.9, 0.999), (0.9, 0.99), (0.9, 0.9), (0.5, 0.9)], 60
    spiky = normal(n, 6) * 10.0 ** rng(1).uniform(-6, 6, (n, 6))
    worst = np.stack([cf.adam_worst_gradients(n, *b) for b in decays], 1)
    g = np.hstack([normal(n, 6), spiky, np.sort(np.abs(spiky), 0), worst])
    t = np.arange(1, n + 1)[:, None]
    for i, (b, u) in enumerate(
        zip(decays, steps_of([adam(1.0, *b, eps=0.0) for b in decays], g), strict=True)
    ):
        bound = cf.adam_step_bound(t, *b)
        # Three roundings per step in each average. The bound itself divides by 1 - b2.
        error = roundings(3 * n + 3 * n / 2 + 20 + 1 / (1 - b[1]))
        assert np.all(np.abs(u) <= bound * (1 + error))
        assert_allclose(np.abs(u[-1, 18 + i]), bound[-1, 0], error)
        if b[0] == b[1]:
            assert_allclose(bound, 1, error)


def test_without_a_gradient_adam_coasts():
    """Both averages fade by their decays, and their corrections grow: a quotient of closed forms."""
    t0, k = 20, np.arange(1, 41)[:, None]
    g = np.concatenate([normal(t0, 4), np.zeros((40, 4))])
    u = np.abs(steps(adam(1.0, eps=0.0), g))
    factor = np.broadcast_to(cf.adam_coasting_factor(k, t0, 0.9, 0.999), (40, 4))
    # A rounding per step in the mean and half of one in the square's root. The closed form subtracts
    # b2^t0 = 0.98 from 1, which is then off by 50 roundings.
    assert_allclose(u[t0:] / u[t0 - 1], factor, roundings(1.5 * 40 + 2 * 50 + 20))


def test_reddis_sequence_leads_adam_to_the_worst_point_and_amsgrad_to_the_best():
    """Reddi, Kale and Kumar (2018), arXiv:1904.09237, Theorem 1: gradients 3, -1, -1, ... on [-1, 1]."""

    def rate(count):
        return 0.5 / jnp.sqrt(1.0 + count)

    txs = [recipe(rate, 0.0, 1 / 10, eps=0.0) for recipe in (adam, amsgrad)]
    with jax.enable_x64(True):

        def body(carry, g):
            after = []
            for tx, (x, state) in zip(txs, carry, strict=True):
                updates, state = tx.update(g, state)
                after.append((jnp.clip(x + updates, -1.0, 1.0), state))
            return after, None

        x = jnp.zeros(1)
        rows = jnp.asarray(cf.reddi_gradients(30_000))
        start = [(x, tx.init(x)) for tx in txs]
        ((adams, _), (amsgrads, _)), _ = jax.jit(lambda s: jax.lax.scan(body, s, rows))(start)
    assert_allclose(adams, 1, atol=0.02)
    assert_allclose(amsgrads, -1, atol=0.02)


def test_schedules_start_at_0_and_corrections_at_1():
    """The first update is scaled by schedule(0), and its averages are divided by 1 - b^1."""
    u = steps(adam(lambda count: 1.0 * count, eps=0.0), np.full((6, 1), 3.0))
    assert_allclose(u[:, 0], -np.arange(6.0), roundings(3 * 6 + 3 * 6 / 2 + 20))


def test_the_derivative_of_the_first_step_by_the_gradient_is_finite_at_zero():
    """d/dg of -g / (|g| + eps) is -eps / (|g| + eps)^2, where a plain square root gives NaN."""
    g = np.array([0.0, 1e-9, 1e-8, -1e-6, 0.5])
    tx = adam(1.0)
    with jax.enable_x64(True):
        slopes = jax.jit(jax.jacobian(lambda g: tx.update(g, tx.init(g))[0]))(jnp.asarray(g))
    # It is a difference of two terms as large as 1 / (|g| + eps), of some twenty operations each.
    error = roundings(2 * 20) / (np.abs(g) + 1e-8)
    want = cf.adam_first_step_derivative(g, 1e-8)
    assert np.all(np.abs(np.diagonal(slopes) - want) <= error)


def test_a_spike_is_forgotten_when_the_average_of_squares_forgets_it():
    """Steps of 1 are back at 1/2 when the spike's part of the average, (1 - b2) b2^k s^2, is 3."""
    spike, b2 = 1e6, 0.999
    g = np.ones((21_000, 1))
    g[0] = spike
    size = np.abs(steps(adam(1.0, b2=b2, eps=0.0), g))[:, 0]
    k = np.flatnonzero(size[100:] > 0.5)[0] + 100
    assert abs(k - cf.adam_spike_recovery(spike, b2)) < 3
    assert_allclose(size[1:].min(), 1.3e-5, atol=2e-6)

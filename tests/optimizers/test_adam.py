"""Adam against closed forms and the bounds of its papers."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import normal, rng, steps

from gradtx import (
    adagrad,
    adam,
    adamw,
    amsgrad,
    nadam,
    rmsprop,
)  # fmt: skip

EPS_FREE = {
    "adagrad": adagrad(1.0, 0.0, 0.0),
    "rmsprop": rmsprop(1.0, eps=0.0),
    "rmsprop_centered": rmsprop(1.0, eps=0.0, centered=True, initial_scale=1.0),
    "adam": adam(1.0, eps=0.0),
    "amsgrad": amsgrad(1.0, eps=0.0),
    "nadam": nadam(1.0, eps=0.0),
}


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 3e-7)])
@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.5, 0.9), (0.0, 0.9999), (0.99, 0.99999)])
def test_oracle_19_first_step_of_adam_is_almost_a_sign(b1, b2, dtype, rtol):
    g = np.array([1e-8, -1e-3, 1.0, 1e4]).astype("f4").astype("f8")
    # Epsilon hat divides by the root of what the float32 program has for 1 - b2.
    assert_allclose(
        steps(adam(1.0, b1, b2), g[None], dtype=dtype)[0], cf.adam_first_step(g, 1e-8), rtol
    )
    hat = steps(adam(1.0, b1, b2, eps_hat=True), g[None], dtype=dtype)[0]
    assert_allclose(hat, cf.adam_first_step_eps_hat(g, b2, 1e-8), rtol)


@pytest.mark.parametrize("name", ["adam", "amsgrad"])
def test_oracle_20_constant_gradient_gives_steps_of_the_rate(name):
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    assert_allclose(steps(EPS_FREE[name], g), -np.sign(g), 1e-13)


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.9, 0.99), (0.9, 0.9), (0.5, 0.9)])
def test_oracle_25_the_bound_on_adams_step_holds_and_is_attained(b1, b2):
    tx, n = adam(1.0, b1, b2, eps=0.0), 60
    t = np.arange(1, n + 1)[:, None]
    bound = cf.adam_step_bound(t, b1, b2)
    spiky = normal(n, 6) * 10.0 ** rng(1).uniform(-6, 6, (n, 6))
    for g in (normal(n, 6), spiky, np.sort(np.abs(spiky), 0)):
        assert np.all(np.abs(steps(tx, g)) <= bound * (1 + 1e-12))
    worst = cf.adam_worst_gradients(n, b1, b2)[:, None]
    assert_allclose(np.abs(steps(tx, worst)[-1]), bound[-1], 1e-11)
    if b1 == b2:
        assert_allclose(bound, 1, 1e-12)


def test_oracle_28_without_a_gradient_adam_coasts():
    t0, k = 20, np.arange(1, 41)[:, None]
    g = np.concatenate([normal(t0, 4), np.zeros((40, 4))])
    u = np.abs(steps(adam(1.0, eps=0.0), g))
    assert_allclose(
        u[t0:] / u[t0 - 1], cf.adam_coasting_factor(k, t0, 0.9, 0.999) + 0 * u[t0:], 1e-12
    )


@pytest.mark.parametrize(("recipe", "end"), [(adam, 1.0), (amsgrad, -1.0)])
def test_oracle_30_reddis_sequence_leads_adam_to_the_worst_point(recipe, end):
    tx = recipe(lambda count: 0.5 / jnp.sqrt(1.0 + count), 0.0, 1 / 10, eps=0.0)
    with jax.enable_x64(True):

        def body(carry, g):
            x, state = carry
            updates, state = tx.update(g, state)
            return (jnp.clip(x + updates, -1.0, 1.0), state), None

        x = jnp.zeros(1)
        rows = jnp.asarray(cf.reddi_gradients(30_000))
        (x, _), _ = jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), rows))()
    assert_allclose(x, end, atol=0.02)


def test_oracle_39_schedules_start_at_0_and_corrections_at_1():
    u = steps(adam(lambda count: 1.0 * count, eps=0.0), np.full((6, 1), 3.0))
    assert_allclose(u[:, 0], -np.arange(6.0), 1e-13)


def test_oracle_40_the_derivative_of_the_first_step_is_finite_at_zero():
    g = np.array([0.0, 1e-9, 1e-8, -1e-6, 0.5])
    with jax.enable_x64(True):
        tx = adam(1.0)

        def first(g):
            return tx.update(g, tx.init(g))[0]

        slope = jnp.diagonal(jax.jacobian(first)(jnp.asarray(g)))
    assert_allclose(slope, cf.adam_first_step_derivative(g, 1e-8), 1e-9, 1e-15)


def test_oracle_41_adam_forgets_a_spike_when_its_average_does():
    spike, b2 = 1e6, 0.999
    g = np.ones((21_000, 1))
    g[0] = spike
    size = np.abs(steps(adam(1.0, b2=b2, eps=0.0), g))[:, 0]
    k = np.flatnonzero(size[100:] > 0.5)[0] + 100
    assert abs(k - cf.adam_spike_recovery(spike, b2)) < 3
    assert_allclose(size[1:].min(), 1.3e-5, atol=2e-6)


@pytest.mark.parametrize(("b2", "most"), [(0.999, 2e-6), (0.9999, 5e-6)])
def test_oracle_44_a_hundred_thousand_float32_steps_stay_near_float64(b2, most):
    g = normal(100_000, 8).astype("f4")
    wide = steps(adam(1.0, b2=b2), g)
    assert np.max(np.abs(steps(adam(1.0, b2=b2), g, dtype="float32") - wide)) < most


@pytest.mark.parametrize("b2", [0.9, 0.99, 0.999, 0.9999, 0.99999])
@pytest.mark.parametrize("recipe", [adam, adamw, amsgrad])
def test_B1_first_step_of_adam(recipe, b2):
    g = np.array([1e-6, -0.1, 1.0, 3e4], "f4")
    u = steps(recipe(1.0, b2=b2), g[None], dtype="float32")[0]
    exact = g.astype("f8")
    assert_allclose(u, -exact / (np.abs(exact) + 1e-8), 3e-7)

"""AdaGrad against closed forms and the bounds of its paper."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import normal, rng, rotation, run, steps

from gradtx import (
    adagrad,
    chain,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
)  # fmt: skip


def test_oracle_13_adagrad_under_a_constant_gradient():
    g = np.full((200, 3), [0.1, -7.0, 1e5])
    updates, theta = run(adagrad(1.0, 0.0, 0.0), g)
    t = np.arange(1, 201)[:, None]
    assert_allclose(updates, -np.sign(g) * cf.adagrad_constant_step(t), 1e-13)
    low, high = cf.adagrad_displacement_bounds(200)
    assert np.all((low <= np.abs(theta[-1])) & (np.abs(theta[-1]) <= high))


@pytest.mark.parametrize("kind", ["constant", "noise", "growing", "shrinking"])
def test_oracle_14_sum_of_adagrad_steps_times_gradients_is_bounded(kind):
    t = np.arange(1.0, 301)[:, None]
    g = {"constant": 0 * t + 2, "noise": normal(300, 4), "growing": 1.05**t, "shrinking": 0.95**t}[
        kind
    ]
    sums = -np.sum(g * steps(adagrad(1.0, 0.0, 0.0), g), 0)
    want, bound = cf.adagrad_lemma(g)
    assert_allclose(sums, want, 1e-12)
    assert np.all(sums <= bound)


@pytest.mark.parametrize("kind", ["signs", "noise", "against", "rare"])
def test_oracle_15_regret_of_adagrad_in_a_box(kind):
    lr, radius, n = 0.3, 1.0, 300
    noise, rare = normal(n, 4), normal(n, 4) * (rng(1).random((n, 4)) < 0.05)
    tx = adagrad(lr, 0.0, 0.0)
    with jax.enable_x64(True):

        def body(carry, row):
            x, state = carry
            # The adversary that moves away from where the player stands.
            away = jnp.where(x >= 0, 1.0, -1.0) * jnp.abs(row)
            g = {"signs": jnp.sign(row), "against": away}.get(kind, row)
            updates, state = tx.update(g, state)
            return (jnp.clip(x + updates, -radius, radius), state), (g, x)

        x = jnp.full(4, 0.5)
        rows = jnp.asarray(rare if kind == "rare" else noise)
        g, x = jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), rows)[1])()
    g, x = np.asarray(g), np.asarray(x)
    regret = np.sum(g * x) + radius * np.abs(g.sum(0)).sum()
    assert regret <= cf.adagrad_regret_bound(g, np.full(4, 2 * radius), lr)
    assert kind != "against" or regret > 0  # the bound has something to bound


def test_oracle_16_full_matrix_adagrad_turns_with_its_gradients():
    full = chain(scale_by_full_matrix_adagrad(0.0), scale_by_learning_rate(1.0))
    g, q = normal(30, 5), rotation(5)
    u = steps(full, g)
    assert_allclose(u[0], -g[0] / np.linalg.norm(g[0]), 1e-13)
    assert_allclose(steps(full, g @ q.T), u @ q.T, rtol=0, atol=1e-9)
    diagonal = adagrad(1.0, 0.0, 0.0)
    assert np.max(np.abs(steps(diagonal, g @ q.T) - steps(diagonal, g) @ q.T)) > 0.1
    axes = np.eye(5)[rng(1).integers(5, size=30)] * normal(30, 1)
    for same in (axes, g[:, :1]):
        assert_allclose(steps(full, same), steps(diagonal, same), rtol=0, atol=1e-12)


def test_B6_the_largest_sum_of_squares_still_divides():
    tx = adagrad(1.0, 0.0, 0.0)
    u = steps(tx, np.full((40, 1), 3e38), dtype="float32")
    assert np.all(np.isfinite(u)) and np.all(u < -0.1)

"""Weight decay alone, and beside a penalty in the loss."""

import closed_forms as cf
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from runs import normal, run

from gradtx import (
    adam,
    adamw,
    sgd,
)  # fmt: skip

CURVATURES = np.linspace(1.0, 100.0, 7)


ONES = np.ones(CURVATURES.shape)


def quadratic(x):
    return CURVATURES * x


def cosine(count):
    return 0.01 * (1 + jnp.cos(jnp.pi * count / 60.0))


def test_oracle_31_decay_alone_is_a_product():
    theta = normal(4)
    _, after = run(adamw(cosine, weight_decay=0.3), np.zeros((60, 4)), theta)
    rates = 0.01 * (1 + np.cos(np.pi * np.arange(60) / 60))
    assert_allclose(after[-1], cf.decayed(theta, rates, 0.3), 1e-13)
    _, after = run(
        adamw(0.1, schedule=cosine, weight_decay=0.3, decay_mode="schedule"),
        np.zeros((60, 4)),
        theta,
    )
    assert_allclose(after[-1], cf.decayed(theta, rates, 0.3), 1e-13)
    _, after = run(adamw(0.1, weight_decay=0.3, decay_mode="absolute"), np.zeros((60, 4)), theta)
    assert_allclose(after[-1], cf.decayed(theta, np.ones(60), 0.3), 1e-13)


def test_oracle_32_a_penalty_is_a_decay_for_sgd_and_not_for_others():
    def end(tx):
        return run(tx, quadratic, ONES, 50)[1][-1]

    def decayed(momentum):
        l2 = sgd(0.005, momentum, weight_decay=0.5)
        return end(l2) - end(sgd(0.005, momentum, weight_decay=0.5, decoupled=True))

    assert_allclose(decayed(None), 0, atol=1e-15)
    assert np.max(np.abs(decayed(0.9))) > 1e-3
    # Adam makes of the penalty what it makes of any gradient: steps of the rate, whatever lambda.
    for weight_decay in (1e-4, 1e-2, 1.0):
        _, theta = run(adam(0.01, weight_decay=weight_decay), np.zeros((50, 1)), np.array([5.0]))
        assert_allclose(theta[-1], 5.0 - 50 * 0.01, atol=1e-2)
    _, theta = run(adamw(0.01, weight_decay=1.0), np.zeros((50, 1)), np.array([5.0]))
    assert_allclose(theta[-1], 5.0 * 0.99**50, 1e-13)

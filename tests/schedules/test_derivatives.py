"""The derivatives of schedules by their numbers, forward and backward, at the steps where they bend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

# Schedules with every shape of a leg, at their first and last steps, where a power or a root is 0.
BENT = [
    gradtx.polynomial_schedule(1.0, 0.1, 0.5, 8, 2),
    gradtx.cosine_decay_schedule(1.0, 8, 0.1, 0.5),
    gradtx.warmup_stable_decay_schedule(0.0, 1.0, 2, 2, 4, decay_type="1-sqrt"),
    gradtx.exponential_decay(1.0, 4, 0.5, end_value=0.25),
    gradtx.warmup_inverse_sqrt_schedule(0.0, 1.0, 2),
    gradtx.linear_schedule(1.0, 2.0, 8) / gradtx.linear_schedule(1.0, 0.0, 8),
]
STEPS = jnp.arange(12)


@pytest.mark.parametrize("schedule", BENT, ids=repr)
def test_forward_and_backward_derivatives_are_finite_and_agree(schedule):
    at = lambda s: s(STEPS)
    forward, backward = jax.jit(lambda s: (jax.jacfwd(at)(s), jax.jacrev(at)(s)))(schedule)
    for a, b in zip(jax.tree.leaves(forward), jax.tree.leaves(backward), strict=True):
        assert np.all(np.isfinite(a)) and np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, 1e-5, 1e-5)


def test_the_derivatives_of_warm_up_and_cosine_are_those_of_its_equation():
    schedule = gradtx.warmup_cosine_decay_schedule(0.1, 1.0, 4, 12, end_value=0.2)
    got = jax.jit(jax.jacfwd(lambda s: s(STEPS)))(schedule)
    t = np.arange(12.0)
    x = np.clip((t - 4) / 8, 0, 1)
    weight, rises = (1 + np.cos(np.pi * x)) / 2, t < 4
    zero = np.zeros(12)
    close = lambda a, b: np.testing.assert_allclose(a, b, 0, 2e-6)
    close(got.init_value, np.where(rises, 1 - t / 4, zero))
    close(got.peak_value, np.where(rises, t / 4, weight))
    close(got.end_value, np.where(rises, zero, 1 - weight))
    by_x = 0.8 * -np.pi / 2 * np.sin(np.pi * x)
    close(got.decay_steps, np.where(rises, zero, by_x * -x / 8))


def test_the_number_that_would_train_best_is_found_by_descent():
    """The gradient of a loss after training, by the peak of the schedule, points to a lower loss."""

    def loss(tx):
        theta, state = jnp.float32(1.0), tx.init(jnp.float32(1.0))
        for _ in range(3):
            updates, state = tx.update(theta, state)
            theta = gradtx.apply_updates(theta, updates)
        return jnp.square(theta)

    tx = gradtx.sgd(gradtx.cosine_decay_schedule(0.1, 4))
    gradient = jax.jit(jax.grad(loss))(tx).learning_rate.init_value
    # theta_3 is the product of 1 - eta s_t, with the shares s_t = 1, 0.854, 0.5 of the cosine.
    shares = (1 + np.cos(np.pi * np.arange(3) / 4)) / 2
    factors = 1 - 0.1 * shares
    want = 2 * np.prod(factors) ** 2 * np.sum(-shares / factors)
    np.testing.assert_allclose(gradient, want, 1e-6)

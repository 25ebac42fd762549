"""Nesterov's look-ahead and the shifted iterate that optimizers keep are one method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from gradtx import (
    apply_updates,
    chain,
    eval_params,
    lookahead_params,
    scale_by_learning_rate,
    scale_by_momentum,
)  # fmt: skip

CURVATURES = np.linspace(1.0, 100.0, 7)


ONES = np.ones(CURVATURES.shape)


def momentum(form="ema", b=0.9, lr=1.0, **options):
    return chain(scale_by_momentum(b, form, **options), scale_by_learning_rate(lr))


def warmup(count):
    return 0.02 * jnp.minimum(1.0, (1.0 + count) / 20.0)


def cosine(count):
    return 0.01 * (1 + jnp.cos(jnp.pi * count / 60.0))


def inside(b, lr, **options):
    return chain(scale_by_learning_rate(lr), scale_by_momentum(b, form="heavy_ball", **options))


def smooth(x):
    return CURVATURES / 10 * jnp.tanh(x) + 0.3 * x


def looking_ahead(tx, n):
    """(points where gradients were taken, parameters after) of the explicit look-ahead."""
    with jax.enable_x64(True):

        def body(carry, _):
            theta, state = carry
            phi = lookahead_params(tx, theta, state)
            updates, state = tx.update(smooth(phi), state, theta)
            theta = apply_updates(theta, updates)
            return (theta, state), (phi, theta)

        theta = jnp.asarray(ONES)
        start = theta, tx.init(theta)
        return jax.jit(lambda start: jax.lax.scan(body, start, length=n)[1])(start)


def shifted(tx, n):
    """(points where gradients were taken, parameters behind them) of the shifted iterate."""
    with jax.enable_x64(True):

        def body(carry, _):
            phi, state = carry
            updates, state = tx.update(smooth(phi), state, phi)
            after = apply_updates(phi, updates)
            return (after, state), (phi, eval_params(tx, after, state))

        phi = jnp.asarray(ONES)
        start = phi, tx.init(phi)
        return jax.jit(lambda start: jax.lax.scan(body, start, length=n)[1])(start)


SAME = {
    "heavy_ball": lambda **n: momentum("heavy_ball", 0.8, 0.02, **n),
    "average": lambda **n: momentum("ema", 0.8, 0.1, **n),
    "inside": lambda **n: inside(0.8, 0.02, **n),
    "inside_warmup": lambda **n: inside(0.8, warmup, **n),
    "inside_cosine": lambda **n: inside(0.8, cosine, **n),
}


@pytest.mark.parametrize("name", SAME)
def test_oracle_08_look_ahead_is_the_shifted_iterate(name):
    explicit, stored = SAME[name](), SAME[name](nesterov=True)
    for ours, theirs in zip(looking_ahead(explicit, 80), shifted(stored, 80), strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("schedule", "least"), [(warmup, 0.01), (cosine, 1e-5)])
def test_oracle_08_with_a_scheduled_rate_outside_they_are_two_methods(schedule, least):
    explicit = looking_ahead(momentum("heavy_ball", 0.8, schedule), 80)[0]
    stored = shifted(momentum("heavy_ball", 0.8, schedule, nesterov=True), 80)[0]
    assert np.max(np.abs(explicit - stored)) > least

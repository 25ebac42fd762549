"""Nesterov's look-ahead, and the shifted iterate that optimizers train, are one method.

Sutskever et al. (2013), section 2, and Bengio, Boulanger-Lewandowski and Pascanu (2013),
arXiv:1212.0901, section 3.5: with phi = theta - lr b m, the gradient at the look-ahead point of theta
is the gradient at phi. In float64, on a smooth loss that is not quadratic.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from rounding import roundings

from gradtx import (
    apply_updates,
    chain,
    eval_params,
    lookahead_params,
    scale_by_learning_rate,
    scale_by_momentum,
)

CURVATURES = np.linspace(1.0, 100.0, 7)
STEPS = 80
B = 0.8


def outside(form, lr, **options):
    return chain(scale_by_momentum(B, form, **options), scale_by_learning_rate(lr))


def inside(lr, **options):
    return chain(scale_by_learning_rate(lr), scale_by_momentum(B, form="heavy_ball", **options))


def warmup(count):
    return 0.02 * jnp.minimum(1.0, (1.0 + count) / 20.0)


def cosine(count):
    return 0.01 * (1 + jnp.cos(jnp.pi * count / 60.0))


def gradient(x):
    return CURVATURES / 10 * jnp.tanh(x) + 0.3 * x


def looking_ahead(tx, theta, state):
    """One step: (point where the gradient was taken, parameters after), and the state."""
    phi = lookahead_params(tx, theta, state)
    updates, state = tx.update(gradient(phi), state, theta)
    theta = apply_updates(theta, updates)
    return (theta, state), (phi, theta)


def shifted(tx, phi, state):
    """One step: (point where the gradient was taken, parameters behind it after), and the state."""
    updates, state = tx.update(gradient(phi), state, phi)
    after = apply_updates(phi, updates)
    return (after, state), (phi, eval_params(tx, after, state))


def both(makers):
    """For each maker of optimizers the points of the look-ahead and those of the shifted iterate."""
    with jax.enable_x64(True):
        ways = [(make, step) for make in makers for step in (looking_ahead, shifted)]
        runs = [(step, make(nesterov=step is shifted)) for make, step in ways]

        def body(carry, _):
            after, seen = zip(
                *(step(tx, *at) for (step, tx), at in zip(runs, carry, strict=True)), strict=True
            )
            return list(after), seen

        theta = jnp.ones(CURVATURES.shape)
        start = [(theta, tx.init(theta)) for _, tx in runs]
        seen = jax.jit(lambda start: jax.lax.scan(body, start, length=STEPS)[1])(start)
    return list(zip(seen[::2], seen[1::2], strict=True))


def test_look_ahead_is_the_shifted_iterate_where_the_rate_is_constant_or_inside():
    makers = {
        "heavy ball": lambda **n: outside("heavy_ball", 0.02, **n),
        "average": lambda **n: outside("ema", 0.1, **n),
        "rate inside": lambda **n: inside(0.02, **n),
        "rate inside, warmup": lambda **n: inside(warmup, **n),
        "rate inside, cosine": lambda **n: inside(cosine, **n),
    }
    for name, (explicit, stored) in zip(makers, both(makers.values()), strict=True):
        for ours, theirs in zip(explicit, stored, strict=True):
            # Twenty roundings per step on either side; the momentum keeps each for 1 / (1 - b) steps.
            error = roundings(2 * 20 * STEPS / (1 - B))
            assert_allclose(ours, theirs, rtol=0, atol=error, err_msg=name)


def test_with_a_scheduled_rate_outside_of_the_momentum_they_are_two_methods():
    """The shift then takes the rate of this step, and the look-ahead that of the next one."""
    makers = [lambda s=s, **n: outside("heavy_ball", s, **n) for s in (warmup, cosine)]
    for (explicit, stored), least in zip(both(makers), (0.01, 1e-5), strict=True):
        assert np.max(np.abs(explicit[0] - stored[0])) > least

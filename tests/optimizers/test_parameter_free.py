"""Prodigy, D-Adaptation and DoG against the recursions of their papers in NumPy float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import roundings

import gradtx
from gradtx import dadapt_adamw, dog, linear_schedule, prodigy

STEPS = 40
CURVATURE = np.array([0.5, 1.0, 2.0])
START = np.array([1.0, -2.0, 0.5])


def gradient(x):
    return CURVATURE * x


def prodigy_oracle(decay=0.0, safeguard=False, corrected=True, rate=lambda n: 1.0, c=1.0):
    """Mishchenko & Defazio (2023), algorithm 4, with the weights d / d_0 of the reference."""
    b1, b2, eps, d0 = 0.9, 0.99, 1e-8, 1e-3
    b3, d, r = np.sqrt(b2), d0, 0.0
    x, m, v, s = START, np.zeros(3), np.zeros(3), np.zeros(3)
    out = []
    for n in range(STEPS):
        g = gradient(x)
        bias = np.sqrt(1 - b2 ** (n + 1)) / (1 - b1 ** (n + 1)) if corrected else 1.0
        step = d * rate(n) * bias
        r = b3 * r + d / d0 * step * (g @ (START - x))
        s = b3 * s + d / d0 * (d if safeguard else step) * g
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * (d * g) ** 2
        d = max(d, c * r / np.abs(s).sum())  # before the step, as in the code of the authors
        x = x - step * (m / (np.sqrt(v) + d * eps) + decay * x)
        out.append((x, d))
    return out


def dadapt_oracle(decay=0.0, corrected=True):
    """Defazio & Mishchenko (2023), algorithm 5."""
    b1, b2, eps, d = 0.9, 0.99, 1e-8, 1e-3
    b, r = np.sqrt(b2), 0.0
    x, m, v, s = START, np.zeros(3), np.zeros(3), np.zeros(3)
    out = []
    for n in range(STEPS):
        g = gradient(x)
        bias = np.sqrt(1 - b2 ** (n + 1)) / (1 - b1 ** (n + 1)) if corrected else 1.0
        step = d * bias
        r = b * r + (1 - b) * step * (g @ (s / (np.sqrt(v) + eps)))
        m, v = b1 * m + (1 - b1) * step * g, b2 * v + (1 - b2) * g**2
        s = b * s + (1 - b) * step * g
        x = x - m / (np.sqrt(v) + eps) - decay * step * x
        d = max(d, r / ((1 - b) * np.abs(s).sum()))
        out.append((x, d))
    return out


def dog_oracle(r, decay=0.0, first=None):
    """Ivgi et al. (2023), eq. 1-2."""
    x, total, out = START, 0.0, []
    for n in range(STEPS):
        g = gradient(x) + decay * x
        r = max(r, np.linalg.norm(x - START))
        total += g @ g
        eta = r / np.sqrt(total + 1e-8)
        x = x - (first if n == 0 and first else eta) * g
        out.append((x, r))
    return out


SMALL = {"betas": (0.9, 0.99), "estim_lr0": 1e-3}
CASES = {
    "prodigy": (prodigy(**SMALL), prodigy_oracle),
    "prodigy, all settings": (
        prodigy(
            linear_schedule(1.0, 0.0, 80), **SMALL, estim_lr_coef=0.7, weight_decay=0.1,
            safeguard_warmup=True, bias_correction=False,
        ),
        lambda: prodigy_oracle(0.1, True, False, lambda n: 1 - n / 80, 0.7),
    ),
    "dadapt": (dadapt_adamw(**SMALL), dadapt_oracle),
    "dadapt, decay": (
        dadapt_adamw(**SMALL, weight_decay=0.1, bias_correction=False),
        lambda: dadapt_oracle(0.1, False),
    ),
    "dog": (dog(), lambda: dog_oracle(1e-6 * (1 + np.linalg.norm(START)))),
    "dog, decay": (
        dog(init_step=("distance", 0.01), weight_decay=0.1), lambda: dog_oracle(0.01, 0.1)
    ),
    "dog, rate": (
        dog(init_step=("learning_rate", 0.1)), lambda: dog_oracle(0.0, first=0.1)
    ),
}  # fmt: skip


def halves(x):
    """Two leaves, so that what is one number for the tree is not one for each leaf."""
    return {"a": x[:1], "b": x[1:]}


@functools.cache
def trajectories():
    """The parameters and the estimates of every case, in one program."""
    txs = [tx for tx, _ in CASES.values()]

    def body(carry, _):
        after, seen = [], []
        for tx, (params, state) in zip(txs, carry, strict=True):
            g = dict(
                zip(
                    "ab", jnp.split(gradient(jnp.concatenate([*params.values()])), [1]), strict=True
                )
            )
            u, state = tx.update(g, state, params)
            params = gradtx.apply_updates(params, u)
            after.append((params, state))
            name = "max_dist" if type(tx) is dog else "estim_lr"
            seen.append((jnp.concatenate([*params.values()]), gradtx.get(state, name)))
        return after, seen

    with jax.enable_x64(True):
        start = halves(jnp.asarray(START))
        carry = [(start, tx.init(start)) for tx in txs]
        seen = jax.jit(lambda c: jax.lax.scan(body, c, None, STEPS)[1])(carry)
        return dict(zip(CASES, jax.tree.map(np.asarray, seen), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_is_the_recursion_of_its_paper(name):
    points, estimates = trajectories()[name]
    want = CASES[name][1]()
    # At most 60 operations per step. Distances grow with what they measure, so a rounding is magnified
    # while they grow from their first values, by at most their growth.
    growth = want[-1][1] / max(want[0][1], 1e-6)
    rtol = max(1.0, growth) * roundings(60 * STEPS)
    assert_allclose(estimates, [d for _, d in want], rtol=rtol, atol=0)
    assert_allclose(points, [x for x, _ in want], rtol=0, atol=2 * rtol)


def test_the_average_of_dog_is_that_of_its_experiments():
    """Ivgi et al. (2023): the average moves to theta_t by (gamma + 1) / (t + gamma) of the way."""
    points, want = dog_oracle(0.01), 0.0
    tx = dog(init_step=("distance", 0.01), average=8)
    with jax.enable_x64(True):
        x = jnp.asarray(START)
        state, update = tx.init(x), jax.jit(tx.update)
        for t, (point, _) in enumerate(points, 1):
            u, state = update(gradient(x), state, x)
            x = x + u
            want = want + 9 / (t + 8) * (point - want)
            got = gradtx.eval_params(tx, x, state)
            assert_allclose(got, want, rtol=0, atol=100 * roundings(60 * STEPS))


def test_a_huge_gradient_keeps_the_distance_finite():
    params = jnp.ones(8)
    for tx in dog(), prodigy(), dadapt_adamw():
        state = tx.init(params)
        for size in (1.0, 1e38, 0.0, 1.0):
            u, state = tx.update(jnp.full(8, size), state, params)
            assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((u, state)))


def test_a_gradient_that_never_changes_keeps_the_distance_finite():
    """A loss that falls without end has no solution, so an estimate of the distance to it only grows."""
    g = jnp.array([1.0, -2.0, 0.0])
    for tx in dog(), prodigy(), dadapt_adamw():

        def body(carry, _, tx=tx):
            params, state = carry
            u, state = tx.update(g, state, params)
            return (params + jnp.clip(u, -1e9, 1e9), state), u

        params = jnp.zeros(3)
        carry, us = jax.jit(lambda carry, body=body: jax.lax.scan(body, carry, length=2000))(
            (params, tx.init(params))
        )
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((carry, us))), tx


def test_the_sum_of_squares_of_dog_has_only_the_roundings_of_a_sum():
    """All squares are 16, which float32 adds to 2^23 without a rounding."""
    tx, x = dog(), jnp.ones(4)
    state = gradtx.set(tx.init(x), sum_sq_norm_grads=2.0**23)
    for _ in range(50):
        _, state = tx.update(jnp.full(4, 2.0), state, x)
    assert gradtx.get(state, "sum_sq_norm_grads") == 2.0**23 + 50 * 16


@pytest.mark.parametrize("pair", [("heuristic", "much"), ("far", 1.0), 0.1])
def test_the_first_step_of_dog_is_a_word_and_a_number(pair):
    with pytest.raises(ValueError, match=r"`\(\"heuristic\", 1e-6\)`"):
        dog(init_step=pair)


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0)])
def test_decays_are_a_pair(betas):
    with pytest.raises(ValueError, match="decay"):
        prodigy(betas=betas)


@pytest.mark.parametrize("tx", [dog(), prodigy(), dadapt_adamw()], ids=str)
def test_says_that_it_needs_the_parameters(tx):
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))

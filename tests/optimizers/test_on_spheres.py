"""Optimizers that keep or train the norms of matrices, against their papers' recursions. In float64."""

import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from references import recurrence
from rounding import roundings
from runs import normal, run_all

from gradtx import (
    adam,
    adamh,
    chain,
    freeze,
    muonh,
    muown,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
    weight_norm,
)

STEPS, SHAPE = 20, (4, 3)  # a kernel: the rows of the papers, one for each output, are its columns
W, B = normal(1, *SHAPE)[0], normal(1, 3)[0]
G = normal(STEPS, *SHAPE) * np.geomspace(1, 0.05, STEPS)[:, None, None]
GB = normal(STEPS, 3)
# Some forty operations per step, in two runs, and what Adam's corrections subtract from 1.
ERROR = roundings(2 * 60 * STEPS + 2 * 100)


def rows(x):
    return np.linalg.norm(x, axis=0, keepdims=True)


def adam_direction(s, key, g, t, b1=0.9, b2=0.95, eps=1e-8):
    m = s[key + "m"] = b1 * s.get(key + "m", 0.0) + (1 - b1) * g
    v = s[key + "v"] = b2 * s.get(key + "v", 0.0) + (1 - b2) * g**2
    return m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)


def polar(x):
    u, _, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt


def on_the_ball(s, w, d, lr):
    """arXiv:2606.16899, algorithm 1, with the norm at the start."""
    radius = s.setdefault("radius", np.linalg.norm(w))
    moved = w - lr * radius * d / np.linalg.norm(d)
    return radius * moved / np.linalg.norm(moved) - w


@recurrence
def adam_on_the_ball(s, grad, x, t, *, lr=0.1):
    if x.ndim < 2:
        return -lr * adam_direction(s, "", grad(x), t)
    return on_the_ball(s, x, adam_direction(s, "", grad(x), t), lr)


@recurrence
def muon_on_the_ball(s, grad, x, t, *, lr=0.1, beta=0.95):
    if x.ndim < 2:
        return -lr * adam_direction(s, "", grad(x), t)
    g = grad(x)
    s.m = beta * s.m + (1 - beta) * g
    return on_the_ball(s, x, polar(beta * s.m + (1 - beta) * g), lr)


@recurrence
def rows_apart(s, grad, x, t, *, optimizers=()):
    """Salimans & Kingma (2016), arXiv:1602.07868, eq. 2 and 3, as arXiv:2605.10797 uses them."""
    turn, gain = optimizers
    if t == 1:
        s.v, s.r = x, rows(x)
    g, toward = grad(x), s.v / rows(s.v)
    along = np.sum(g * toward, 0, keepdims=True)
    s.v = s.v + turn(s, s.r / rows(s.v) * (g - along * toward), t)
    s.r = s.r + gain(s, along, t)
    return s.r * s.v / rows(s.v) - x


def muown_turn(s, g, t):
    s.m = 0.95 * s.m + 0.05 * g
    return -0.1 * 0.2 * np.sqrt(max(SHAPE)) * polar(s.m)


def muown_gain(s, g, t):
    return -0.1 * 0.5 * (adam_direction(s, "r", g, t) + 0.1 * s.r)


def plain(rate):
    return lambda s, g, t: -rate * g


def falling(count):
    return 0.3 / (1.0 + count)


def test_the_norms_are_kept_and_the_directions_are_those_of_adam_and_muon():
    rates, start, gradients = (0.1, falling), {"w": W, "b": B}, {"w": G, "b": GB}
    # Twelve steps of the classical iteration, which converges quadratically, reach the polar factor.
    exact = {"coefficients": (1.5, -0.5, 0.0), "steps": 25}
    txs = [adamh(rates[0]), adamh(rates[1]), muonh(rates[0], **exact)]
    systems = [
        (adam_on_the_ball, {}),
        (adam_on_the_ball, {"lr": falling}),
        (muon_on_the_ball, {}),
    ]
    seen = run_all(txs, gradients, start)
    for (u, points), (system, hyper) in zip(seen, systems, strict=True):
        for k in start:
            want = np.stack(system(gradients[k], start[k], **hyper))
            # The orthogonal factor magnifies roundings by the condition of the momentum.
            assert_allclose(u[k], want, 0, 100 * ERROR * np.abs(want).max())
        size = np.linalg.norm(points["w"], axis=(1, 2))
        assert_allclose(size, np.linalg.norm(W), ERROR)


def test_rows_are_trained_as_lengths_and_directions():
    exact = {"coefficients": (1.5, -0.5, 0.0), "steps": 25}
    txs = [
        weight_norm(sgd(0.3), sgd(0.2)),
        muown(0.1, weight_decay=0.1, gain_rate=0.5, **exact),
        weight_norm(sgd(0.3), freeze()),
        weight_norm(freeze(), adam(0.1)),
    ]
    turns = [plain(0.3), muown_turn, plain(0.3), plain(0.0)]
    gains = [
        plain(0.2),
        muown_gain,
        plain(0.0),
        lambda s, g, t: -0.1 * adam_direction(s, "r", g, t, b2=0.999),
    ]
    seen = run_all(txs, G, W)
    for (u, _), *optimizers in zip(seen, turns, gains, strict=True):
        want = np.stack(rows_apart(G, W, optimizers=optimizers))
        assert_allclose(u, want, 0, 1000 * ERROR * np.abs(want).max())
    (_, turned), (_, grown) = seen[2:]
    lengths = np.linalg.norm(turned, axis=1)
    assert_allclose(lengths, np.broadcast_to(rows(W), lengths.shape), ERROR)
    toward = grown / np.linalg.norm(grown, axis=1, keepdims=True)
    assert_allclose(toward, np.broadcast_to(W / rows(W), toward.shape), 0, ERROR)


def test_a_row_of_zeros_starts_to_move():
    w = np.array([[1.0, 0.0], [2.0, 0.0]])
    tx = weight_norm(chain(scale_by_momentum(0.0), scale_by_learning_rate(0.1)), adam(0.1))
    ((_, points),) = run_all([tx], np.ones((3, 2, 2)), w)
    assert np.all(points[-1][:, 1] != 0) and np.all(np.isfinite(points))


def test_the_state_has_two_numbers_per_row_beside_those_of_the_optimizers():
    state = weight_norm(sgd(0.1), adam(0.1)).init(
        {"w": jnp.zeros((4, 3)), "stack": jnp.zeros((2, 4, 3))}
    )
    for name in ("lengths", "sizes"):
        sizes = {k: x.shape for k, x in getattr(state, name).items()}
        assert sizes == {"w": (1, 3), "stack": (2, 1, 3)}

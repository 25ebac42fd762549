"""Optimizers that are compositions, against the recursions of their papers in NumPy float64.

A recursion is a generator. At every step it gets the gradient and the parameter of one leaf, and yields
the update. The docstrings of the classes name the sources.
"""

from functools import partial

import numpy as np
import pytest
from references import polar_factor
from rounding import roundings
from runs import normal, run_all

import gradtx
from gradtx import linear_schedule

STEPS = 12
norm = np.linalg.norm
sign = np.sign


def fade(t):
    """The linear schedule of the learning rate in step t, which counts from 1."""
    return 0.1 * (1 - (t - 1) / 20)


FADE = linear_schedule(0.1, 0.0, 20)


def lion(lr=0.1, b1=0.9, b2=0.99, wd=0.0):
    m = u = 0.0
    while True:
        g, x = yield u
        c = b1 * m + (1 - b1) * g
        m = b2 * m + (1 - b2) * g
        u = -lr * (sign(c) + wd * x)


def caution(u, g):
    """Liang et al. (2024), arXiv:2411.16085: only where the step agrees with the gradient."""
    return u * (u * g > 0) / max(np.mean(u * g > 0), 1e-3)


def cautious_lion(lr=0.1, b1=0.9, b2=0.99, wd=0.1):
    m = u = 0.0
    while True:
        g, x = yield u
        c = b1 * m + (1 - b1) * g
        m = b2 * m + (1 - b2) * g
        u = -lr * (caution(sign(c), g) + wd * x)


def cautious_adamw(lr=0.1, b1=0.9, b2=0.999, eps=1e-8, wd=0.1):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        adam = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = -lr * (caution(adam, g) + wd * x)


def signum(lr=0.1, b=0.9):
    m = u = 0.0
    while True:
        g, _ = yield u
        m = b * m + (1 - b) * g
        u = -lr * sign(m)


def ademamix(lr=0.1, b1=0.9, b2=0.999, b3=0.99, alpha=5.0, eps=1e-8, wd=0.01, ramp=None):
    m1 = m2 = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        a, b = alpha, b3
        if ramp:
            a = min(t * alpha / ramp, alpha)
            share = min(t / ramp, 1)
            low, high = np.log(b1), np.log(b3)
            b = min(np.exp(low * high / ((1 - share) * high + share * low)), b3)
        m1, m2 = b1 * m1 + (1 - b1) * g, b * m2 + (1 - b) * g
        v = b2 * v + (1 - b2) * g**2
        root = np.sqrt(v / (1 - b2**t)) + eps
        u = -lr * ((m1 / (1 - b1**t) + a * m2) / root + wd * x)


def simplified_ademamix(lr=0.1, b1=0.9, b2=0.95, alpha=4.0, eps=1e-8):
    m = v = u = t = 0.0
    while True:
        g, _ = yield u
        t += 1
        m, v = b1 * m + g, b2 * v + (1 - b2) * g**2
        u = -lr * (m + alpha * g) / (np.sqrt(v / (1 - b2**t)) + eps)


def laprop(lr=0.1, b1=0.9, b2=0.999, eps=1e-15, wd=0.1):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        v = b2 * v + (1 - b2) * g**2
        m = b1 * m + (1 - b1) * g / (np.sqrt(v / (1 - b2**t)) + eps)
        u = -lr * (m / (1 - b1**t) + wd * x)


def qhm(lr=0.1, b=0.9, nu=0.7):
    m = u = 0.0
    while True:
        g, _ = yield u
        m = b * m + (1 - b) * g
        u = -lr * ((1 - nu) * g + nu * m)


def aggmo(lr=0.1, betas=(0.0, 0.5, 0.9)):
    v, u = [0.0] * len(betas), 0.0
    while True:
        g, _ = yield u
        v = [b * x - g for b, x in zip(betas, v, strict=True)]
        u = lr / len(betas) * sum(v)


def adamc(peak=0.1, b1=0.9, b2=0.999, eps=1e-8, wd=0.2):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        lr = fade(t)
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = -lr * step - lr * wd * lr / peak * x


def grokfast(lr=0.1, b=0.9, lamb=2.0, from_zero=False):
    m = u = t = 0.0
    while True:
        g, _ = yield u
        t += 1
        m = g if t == 1 and not from_zero else b * m + (1 - b) * g
        u = -lr * (g + lamb * m)


def reduced(gamma, b1, from_zero):
    """The gradient of MARS, for which the recursions below ask at every step."""
    before = c = None
    while True:
        g = yield c
        before = (np.zeros_like(g) if from_zero else g) if before is None else before
        c = g + gamma * b1 / (1 - b1) * (g - before)
        c, before = c / max(1.0, norm(c)), g


def mars(lr=0.1, b1=0.95, b2=0.99, eps=1e-8, gamma=0.1, wd=0.1, from_zero=False, signs=False):
    c_of, m, v, u, t = reduced(gamma, b1, from_zero), 0.0, 0.0, 0.0, 0
    next(c_of)
    while True:
        g, x = yield u
        t += 1
        c = c_of.send(g)
        m, v = b1 * m + (1 - b1) * c, b2 * v + (1 - b2) * c**2
        step = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)
        u = -lr * ((sign(m) if signs else step) + wd * x)


def adan(lr=0.1, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, eps_root=1e-8, wd=0.1, proximal=False):
    m = d = n = u = t = 0.0
    before = None
    while True:
        g, x = yield u
        t += 1
        change = np.zeros_like(g) if before is None else g - before
        m, d = b1 * m + (1 - b1) * g, b2 * d + (1 - b2) * change
        n = b3 * n + (1 - b3) * (g + b2 * change) ** 2
        root = np.sqrt(n / (1 - b3**t) + eps_root) + eps
        step = (m / (1 - b1**t) + b2 * d / (1 - b2**t)) / root
        after = (x - lr * step) / (1 + lr * wd) if proximal else x - lr * (step + wd * x)
        u, before = after - x, g


def adopt(lr=0.1, b1=0.9, b2=0.99, eps=1e-6, clipped=True, nesterov=False):
    m = v = u = t = 0.0
    while True:
        g, _ = yield u
        if t == 0:
            v, u = g**2, np.zeros_like(g)
        else:
            n = g / np.maximum(np.sqrt(v), eps)
            n = np.clip(n, -(t**0.25), t**0.25) if clipped else n
            m = b1 * m + (1 - b1) * n
            v = b2 * v + (1 - b2) * g**2
            u = -lr * (b1 * m + (1 - b1) * n if nesterov else m)
        t += 1


def optimistic(lr=0.1, alpha=0.75, beta=0.5):
    before, u = None, 0.0
    while True:
        g, _ = yield u
        before = g if before is None else before
        u, before = -lr * ((alpha + beta) * g - beta * before), g


def lamb(lr=0.1, b1=0.9, b2=0.999, eps=1e-6, wd=0.1, most=1.5):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        r = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + wd * x
        u = -lr * min(norm(x), most) / norm(r) * r


def lars(lr=0.1, b=0.9, tau=0.05, eps=1e-3, wd=0.1):
    u = 0.0
    while True:
        g, x = yield u
        g = g + wd * x
        u = b * u - lr * tau * norm(x) / (norm(g) + eps) * g


def fromage():
    u, t = 0.0, 0
    while True:
        g, x = yield u
        t += 1
        lr = fade(t)
        after = (x - lr * norm(x) / norm(g) * g) / np.sqrt(1 + lr**2)
        u = after - x


def stableadamw(lr=0.1, b1=0.9, b2=0.9, eps=1e-8, wd=0.1):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        hat = v / (1 - b2**t)
        rms = np.sqrt(np.mean(g**2 / np.maximum(hat, eps**2)))
        rate = lr / max(1, rms)
        u = -rate * wd * x - rate * m / (1 - b1**t) / (np.sqrt(hat) + eps)


def novograd(lr=0.1, b1=0.9, b2=0.25, eps=1e-6, wd=0.1):
    m = v = u = t = 0.0
    while True:
        g, x = yield u
        t += 1
        v = norm(g) ** 2 if t == 1 else b2 * v + (1 - b2) * norm(g) ** 2
        m = b1 * m + g / (np.sqrt(v) + eps) + wd * x
        u = -lr * m


def muon2(lr=0.1, b=0.95, b2=0.95, eps=1e-10, wd=0.1):
    """With the exact orthogonal factor, so the iteration has to converge."""
    m = v = u = 0.0
    while True:
        g, x = yield u
        m, v = b * m + (1 - b) * g, b2 * v + (1 - b2) * g**2
        n = (b * m + (1 - b) * g) / (np.sqrt(v) + eps)
        u = -lr * (polar_factor(n) * max(1, x.shape[1] / x.shape[0]) ** 0.5 + wd * x)


def rmnp(lr=0.1, b=0.95, wd=0.1):
    m = u = 0.0
    while True:
        g, x = yield u
        m = b * m + (1 - b) * g
        rows = m / np.sqrt(np.sum(m**2, 0, keepdims=True))
        u = -lr * (rows * max(1, x.shape[1] / x.shape[0]) ** 0.5 + wd * x)


# The optimizer and its recursion. Matrices alone are compared for the two that treat vectors otherwise.
CASES = {
    "lion": (gradtx.lion(0.1, weight_decay=0.1), partial(lion, wd=0.1)),
    "lion, fast": (gradtx.lion(0.1, 0.9, 0.5, weight_decay=0.0), partial(lion, b2=0.5)),
    "lion, cautious": (
        gradtx.lion(0.1, weight_decay=0.1, cautious_update=True),
        cautious_lion,
    ),
    "adamw, cautious": (
        gradtx.adamw(0.1, weight_decay=0.1, cautious_update=True),
        cautious_adamw,
    ),
    "signum": (gradtx.signum(0.1), signum),
    "ademamix": (gradtx.ademamix(0.1, b3=0.99, weight_decay=0.01), ademamix),
    "ademamix, ramp": (
        gradtx.ademamix(0.1, b3=0.99, weight_decay=0.01, ramp_steps=8),
        partial(ademamix, ramp=8),
    ),
    "simplified_ademamix": (
        gradtx.simplified_ademamix(0.1, 0.9, alpha=4.0),
        simplified_ademamix,
    ),
    "laprop": (gradtx.laprop(0.1, weight_decay=0.1), laprop),
    "qhm": (gradtx.qhm(0.1, 0.9), qhm),
    "aggmo": (gradtx.aggmo(0.1, (0.0, 0.5, 0.9)), aggmo),
    "adamc": (gradtx.adamc(FADE, 0.1, weight_decay=0.2), adamc),
    "grokfast": (gradtx.chain(gradtx.grokfast(0.9), gradtx.sgd(0.1)), grokfast),
    "grokfast, zero": (
        gradtx.chain(gradtx.grokfast(0.9, from_zero=True), gradtx.sgd(0.1)),
        partial(grokfast, from_zero=True),
    ),
    "mars": (gradtx.mars(0.1, gamma=0.1, weight_decay=0.1), mars),
    "mars, zero": (
        gradtx.mars(0.1, gamma=0.1, weight_decay=0.1, from_zero=True),
        partial(mars, from_zero=True),
    ),
    "mars, lion": (
        gradtx.mars(0.1, gamma=0.1, weight_decay=0.1, variant="lion"),
        partial(mars, signs=True),
    ),
    "adan": (gradtx.adan(0.1, weight_decay=0.1), adan),
    "adan, proximal": (
        gradtx.adan(0.1, weight_decay=0.1, proximal=True),
        partial(adan, proximal=True),
    ),
    "adopt": (gradtx.adopt(0.1, b2=0.99), adopt),
    "adopt, version 1": (
        gradtx.adopt(0.1, b2=0.99, use_clipping=False, nesterov=True),
        partial(adopt, clipped=False, nesterov=True),
    ),
    "optimistic": (gradtx.optimistic_gradient_descent(0.1, 0.75, 0.5), optimistic),
    "lamb": (gradtx.lamb(0.1, weight_decay=0.1, max_norm=1.5), lamb),
    "lars": (
        gradtx.lars(0.1, weight_decay=0.1, trust_coefficient=0.05, eps=1e-3),
        lars,
    ),
    "fromage": (gradtx.fromage(FADE), fromage),
    "stableadamw": (gradtx.stableadamw(0.1, b2=0.9, weight_decay=0.1), stableadamw),
    "novograd": (gradtx.novograd(0.1, weight_decay=0.1), novograd),
    "muon2": (
        gradtx.muon2(0.1, weight_decay=0.1, steps=12, scaling="original"),
        muon2,
    ),
    "rmnp": (gradtx.rmnp(0.1, weight_decay=0.1), rmnp),
}
GRADIENTS = {"w": normal(STEPS, 3, 4), "b": 3.0 * normal(STEPS, 4, 1)[..., 0]}
PARAMS = {"w": normal(3, 4), "b": normal(4, 5)[:, 0]}


@pytest.fixture(scope="module")
def seen():
    """All of them in one compiled loop."""
    runs = run_all([tx for tx, _ in CASES.values()], GRADIENTS, PARAMS)
    return dict(zip(CASES, runs, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_an_optimizer_follows_the_recursion_of_its_paper(name, seen):
    updates, points = seen[name]
    for leaf in ("w",) if name in ("muon2", "rmnp") else ("w", "b"):
        recursion, x = CASES[name][1](), PARAMS[leaf]
        next(recursion)
        for t in range(STEPS):
            u = recursion.send((GRADIENTS[leaf][t], x))
            x = points[leaf][t]
            # Some forty operations per step, of which a square root halves half. An average remembers
            # those of ten steps, and the updates are at most a hundred times smaller than their terms.
            tolerance = roundings(40 * 10 * 100)
            np.testing.assert_allclose(updates[leaf][t], u, tolerance, 1e-12, err_msg=f"{leaf} {t}")

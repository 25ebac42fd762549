"""PolarGrad, NAMO, Contra-Muon and Aurora against their papers' recursions with singular values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import roundings
from runs import rng, run_all

import gradtx
from gradtx import aurora, contra_muon, namo, polargrad

STEPS, LR = 3, 0.1
SHAPES = {"tall": (6, 3), "square": (4, 4), "stack": (2, 3, 5)}
GRADIENTS = {k: rng(7, i).normal(size=(STEPS, *s)) for i, (k, s) in enumerate(SHAPES.items())}
START = {k: rng(8, i).normal(size=s) for i, (k, s) in enumerate(SHAPES.items())}


def polar(x):
    u, _, v = np.linalg.svd(x, full_matrices=False)
    return u @ v


def momenta(gs, b, nesterov=True):
    m = np.zeros_like(gs[0])
    for g in gs:
        m = b * m + (1 - b) * g
        yield g, b * m + (1 - b) * g if nesterov else m


def polargrad_oracle(gs, w):
    """Lau, Long & Su (2025): the nuclear norm times the polar factor of the momentum."""
    for _, m in momenta(gs, 0.95, nesterov=False):
        nuclear = np.linalg.svd(m, compute_uv=False).sum()
        w = w - LR * (nuclear * polar(m) + 0.1 * w)
        yield w


def adaptive_muon_oracle(gs, w):
    """Bernstein & Newhouse (2024): steepest descent under the operator norm."""
    for t, (_, m) in enumerate(momenta(gs, 0.95), 1):
        m = m / (1 - 0.95 ** (t + 1))
        nuclear = np.linalg.svd(m, compute_uv=False).sum()
        w = w - LR * (nuclear * np.sqrt(max(1, m.shape[1] / m.shape[0])) * polar(m) + 0.1 * w)
        yield w


def namo_oracle(gs, w):
    """Zhang et al. (2026), algorithm 1, with root mean squares, and each average with its own gain."""
    v, rms = 0.0, lambda x: np.sqrt(np.mean(x**2))
    for t, (g, m) in enumerate(momenta(gs, 0.95), 1):
        v = 0.99 * v + 0.01 * rms(g) ** 2
        rate = rms(m) / (1 - 0.95 ** (t + 1)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        w = w - LR * rate * (0.2 * np.sqrt(max(g.shape)) * polar(m) + 0.1 * w)
        yield w


def contra_muon_oracle(gs, w):
    """The polar factor less a part of the matrix, whose largest singular value is overestimated."""
    for _, m in momenta(gs, 0.95):
        top = (np.linalg.svd(m, compute_uv=False) ** 64).sum() ** (1 / 64)
        inputs, outputs = m.shape
        w = w - LR * np.sqrt(max(1, outputs / inputs)) * (polar(m) - 0.2 * m / top)
        yield w


def aurora_oracle(gs, w):
    """arXiv:2606.27715: two rounds, along the longer axis."""
    for _, x in momenta(gs, 0.95):
        tall = x.T if x.shape[0] < x.shape[1] else x
        (m, n), u = tall.shape, polar(tall)
        if m > n:
            d = 1 / np.linalg.norm(tall, axis=1, keepdims=True)
            u = polar(d * tall)
            d = d * ((n / m) / np.sum(u**2, axis=1, keepdims=True)) ** 0.5
            u = polar(d * tall)
        u = u.T if x.shape[0] < x.shape[1] else u
        inputs, outputs = x.shape
        w = w - LR * (np.sqrt(max(1, outputs / inputs)) * u + 0.025 * w)
        yield w


CASES = {
    "polargrad": (polargrad(LR, weight_decay=0.1, steps=12), polargrad_oracle),
    "adaptive muon": (
        gradtx.muon(LR, weight_decay=0.1, steps=12, scaling="original", adaptive=True),
        adaptive_muon_oracle,
    ),
    "namo": (namo(LR, steps=12), namo_oracle),
    "contra_muon": (contra_muon(LR, steps=12, scaling="original"), contra_muon_oracle),
    "aurora": (aurora(LR, steps=12), aurora_oracle),
}


@functools.cache
def points():
    seen = run_all([tx for tx, _ in CASES.values()], GRADIENTS, START)
    return {name: x for name, (_, x) in zip(CASES, seen, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_is_the_recursion_of_its_paper(name):
    for leaf, gs in GRADIENTS.items():
        got, w = points()[name][leaf], START[leaf]
        matrices = [()] if w.ndim == 2 else [(0,), (1,)]  # stacked matrices are updated one by one
        for k in matrices:
            want = np.array([*CASES[name][1]([g[k] for g in gs], w[k])])
            # The polar factor is as exact as the smallest singular value is large, which is above 0.01.
            assert_allclose(got[(slice(None), *k)], want, rtol=0, atol=100 * roundings(500))


def test_more_rounds_bring_the_norms_of_rows_together():
    g = jnp.asarray(rng(9).normal(size=(4, 16)), "float32")
    spread = []
    for rounds in (1, 4):
        u, _ = gradtx.orthogonalize_balanced(steps=7, rounds=rounds).update(g, ())
        norms = np.linalg.norm(u, axis=0)
        spread.append(norms.max() - norms.min())
        assert_allclose(u @ u.T, np.eye(4), atol=1e-3)
    assert spread[0] > 2 * spread[1]


def test_an_operator_norm_is_approached_from_above_and_does_not_depend_on_the_scale():
    x = jnp.asarray(rng(10).normal(size=(2, 5, 7)), "float32")
    for size in (1e-25, 1.0, 1e30):
        u, _ = gradtx.scale_to_operator_norm().update(size * x, ())
        norms = np.linalg.svd(np.asarray(u, "float64"), compute_uv=False)[:, 0]
        assert (norms <= 1 + roundings(200, "float32")).all() and (
            norms > 5 ** (-1 / 64) - 1e-3
        ).all()


@pytest.mark.parametrize("order", [2, 4, 64])
def test_a_norm_of_a_matrix_is_that_of_its_singular_values(order):
    x = rng(11).normal(size=(2, 5, 7))
    want = (np.linalg.svd(x, compute_uv=False) ** order).sum(-1) ** (1 / order)
    for rms, size in ((False, 1.0), (True, 35**0.5)):
        u, _ = gradtx.matrix_norm(order, rms).update(jnp.asarray(x), ())
        # Each of the products rounds 7 times, and the root makes the errors smaller.
        assert_allclose(
            u, np.broadcast_to(want[:, None, None] / size, x.shape), rtol=roundings(50, "float32")
        )


@pytest.mark.parametrize("order", [0, 1, 3, -2])
def test_the_order_of_a_norm_is_a_power_of_two(order):
    with pytest.raises(ValueError, match="must be a power of two"):
        gradtx.matrix_norm(order)


@pytest.mark.parametrize("size", [1e-25, 3e38])
def test_a_dual_norm_of_any_size_gives_no_nan(size):
    tx = gradtx.scale_by_dual_norm(gradtx.scale_by_sign())
    u, _ = tx.update(jnp.asarray([[size, 0.0], [-size, size]]), ())
    assert not jnp.isnan(u).any() and u[0, 1] == 0


@pytest.mark.parametrize("make", [
    lambda: gradtx.orthogonalize_balanced(rounds=0),
    lambda: gradtx.scale_to_operator_norm(steps=0),
])  # fmt: skip
def test_counts_are_one_or_more(make):
    with pytest.raises(ValueError, match="must lie between 1 and"):
        make()


def test_blocks_of_whole_matrices_count_stacks_and_fused_projections():
    rule = gradtx.matrix_blocks()
    leaf = jax.ShapeDtypeStruct((6, 8, 16), jnp.float32)
    assert rule.blocks("layers/kernel", leaf) == (6, 1, 1)
    assert rule.blocks("bias", jnp.ones(3)) == (1,)

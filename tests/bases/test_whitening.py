"""Shampoo, GaLore and SOAP-Muon against their recursions in NumPy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_soap import falling, gradients, updates

import gradtx
from gradtx._bases.basis import Now


def inverse_root(a, power, eps):
    values, vectors = np.linalg.eigh(a)
    return vectors @ np.diag((np.maximum(values, 0) + eps) ** -power) @ vectors.T


def shampoo(gs, rate, b1, b2, eps, every, powers, graft="adam"):
    """Algorithm 1 of arXiv:1802.09568 with a momentum before it, and the length of another step."""
    m, n = gs[0].shape
    mean, square, total = np.zeros((3, m, n))
    grams = [np.zeros((m, m)), np.zeros((n, n))]
    roots, out = [np.eye(m), np.eye(n)], []
    for t, g in enumerate(gs, 1):
        new = 1.0 if b2 == 1 else 1 - b2
        grams = [b2 * a + new * x for a, x in zip(grams, (g @ g.T, g.T @ g), strict=True)]
        if (t - 1) % every == 0:
            pairs = zip(grams, powers, roots, strict=True)
            roots = [inverse_root(a, p, eps) if p else v for a, p, v in pairs]
        mean = b1 * mean + (1 - b1) * g
        step = roots[0] @ mean @ roots[1]
        square, total = b2 * square + (1 - b2) * g**2, total + g**2
        length = g if graft == "sgd" else step
        if graft == "adam":
            length = mean / (1 - b1**t) / (np.sqrt(square / (1 - b2**t)) + 1e-8)
        elif graft in ("rmsprop", "adagrad"):
            length = g / (np.sqrt(square if graft == "rmsprop" else total) + 1e-8)
        step = step * np.linalg.norm(length) / np.linalg.norm(step)
        out.append(-rate * step)
    return out


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, {"powers": (0.25, 0.25)}),
        ({"b2": 1.0, "grafting": "none"}, {"powers": (0.25, 0.25), "graft": "none", "b2": 1.0}),
        ({"side": "inputs"}, {"powers": (0.5, 0)}),
        *(
            ({"grafting": name}, {"powers": (0.25, 0.25), "graft": name})
            for name in ("rmsprop", "adagrad", "sgd")
        ),
    ],
)
def test_shampoo_is_that_of_the_paper(options, want):
    gs = gradients((4, 4))
    tx = gradtx.shampoo(
        0.1, **({"b1": 0.8, "b2": 0.9, "eps": 1e-6, "precondition_frequency": 4} | options)
    )
    oracle = shampoo(gs, **({"rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-6, "every": 4} | want))
    # An eigenvalue near 0 comes with an error of 1e-15 of the largest, and has the root of 1e-6 at most.
    for got, u in zip(updates(tx, gs), oracle, strict=True):
        np.testing.assert_allclose(got, u, rtol=0, atol=1e-9 * np.abs(u).max())


def test_blocks_are_preconditioned_one_by_one():
    gs = gradients((4, 5), steps=8)
    common = {"b1": 0.8, "b2": 0.9, "grafting": "none", "precondition_frequency": 2, "eps": 1e-6}
    got = updates(gradtx.shampoo(0.1, block_size=2, **common), gs)
    for rows in (slice(0, 2), slice(2, 4)):
        for columns in (slice(0, 2), slice(2, 4), slice(4, 5)):
            part = [g[rows, columns] for g in gs]
            want = shampoo(part, 0.1, 0.8, 0.9, 1e-6, 2, (0.25, 0.25), graft="none")
            for u, w in zip(got, want, strict=True):
                np.testing.assert_allclose(u[rows, columns], w, rtol=0, atol=1e-9)


def directions(g, rank):
    """The directions that the library projects the rows to."""
    with jax.enable_x64(True):
        basis, x = gradtx.low_rank(rank, side="inputs"), jnp.asarray(g)[None]
        return np.asarray(
            basis.refresh(
                x, basis.init_matrix(x), Now(jnp.int32(0), jnp.zeros(1, jnp.uint32))
            ).left[0]
        )


def galore(gs, rate, b1, b2, eps, every, rank, factor, side):
    """Algorithm 2 of arXiv:2403.03507, where averages keep their numbers in a new projection."""
    out, mean, square, p = [], 0.0, 0.0, np.eye(0)
    for t, g in enumerate(gs, 1):
        g = g if side == "inputs" else g.T
        if (t - 1) % every == 0:
            # The signs of singular vectors are arbitrary, and those of the library are taken.
            p = np.linalg.svd(g)[0][:, :rank]
            p = p * np.sign(np.sum(p * directions(g, rank), 0))
        low = p.T @ g
        mean = b1 * mean + (1 - b1) * low
        square = b2 * square + (1 - b2) * low**2
        step = p @ (mean / (1 - b1**t) / (np.sqrt(square / (1 - b2**t)) + eps))
        out.append(-rate * factor * (step if side == "inputs" else step.T))
    return out


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_galore_is_that_of_the_paper(side):
    gs = gradients((4, 6) if side == "inputs" else (6, 4))
    tx = gradtx.galore(0.1, 2, scale=0.5, update_proj_gap=10, eps=1e-6)
    want = galore(gs, 0.1, 0.9, 0.999, 1e-6, 10, 2, 0.5, side)
    for got, u in zip(updates(tx, gs), want, strict=True):
        np.testing.assert_allclose(got, u, rtol=0, atol=1e-9)


def test_galore_carries_the_average_to_a_new_projection():
    # With a linear transformation inside, the average in the new directions is the old one, projected.
    gs = gradients((4, 6), steps=30)
    basis = gradtx.low_rank(2, every=3)
    got = updates(gradtx.in_basis(basis, gradtx.scale_by_momentum(0.8)), gs)
    mean, p = np.zeros((4, 6)), np.eye(0)
    for t, (g, u) in enumerate(zip(gs, got, strict=True)):
        if t % 3 == 0:
            p = falling(g @ g.T)[:, :2]
        mean = p @ p.T @ (0.8 * mean + 0.2 * g)
        np.testing.assert_allclose(u, mean, rtol=0, atol=1e-9)


def test_soap_muon_orthogonalizes_what_soap_makes_of_the_momentum():
    gs = gradients((4, 4), steps=20)
    tx = gradtx.soap_muon(0.1, steps=12, coefficients="jordan", scaling="original")
    plain = gradtx.in_basis(
        gradtx.eigenbasis(0.9, every=1),
        gradtx.identity() / (gradtx.rms(0.9) + 1e-8),
        gradtx.scale_by_momentum(0.95, nesterov=True),
    )
    mean, square = np.zeros((4, 4)), np.zeros((4, 4))
    left, right = 0.1 * gs[0] @ gs[0].T, 0.1 * gs[0].T @ gs[0]
    q, s = falling(left), falling(right)
    for g, inside, u in zip(gs[1:], updates(plain, gs)[1:], updates(tx, gs)[1:], strict=True):
        mean = 0.95 * mean + 0.05 * g
        n = q.T @ (0.95 * mean + 0.05 * g) @ s
        square = 0.9 * square + 0.1 * n**2
        want = q @ (n / (np.sqrt(square) + 1e-8)) @ s.T
        np.testing.assert_allclose(inside, want, rtol=0, atol=1e-9)
        # Jordan's polynomials leave singular values between 0.68 and 1.14.
        a, _, b = np.linalg.svd(want)
        values = np.diag(a.T @ (u / -0.1) @ b.T)
        assert np.all((values > 0.6) & (values < 1.25))
        left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
        for k, gram in enumerate((left, right)):
            old = (q, s)[k]
            order = np.argsort(-np.diag(old.T @ gram @ old))
            square = np.take(square, order, axis=k)
            new = np.linalg.qr(gram @ old[:, order])[0]
            q, s = (new, s) if k == 0 else (q, new)


def test_soap_muon_takes_the_polar_factor_of_a_wide_matrix():
    """The oracle above is for a square one, and leaves the polynomials a range."""
    gs = gradients((4, 6), steps=8)
    tx = gradtx.soap_muon(0.1, coefficients=(1.5, -0.5, 0.0), steps=40, scaling="original")
    plain = gradtx.in_basis(
        gradtx.eigenbasis(0.9, every=1),
        gradtx.identity() / (gradtx.rms(0.9) + 1e-8),
        gradtx.scale_by_momentum(0.95, nesterov=True),
    )
    for inside, u in zip(updates(plain, gs)[1:], updates(tx, gs)[1:], strict=True):
        a, _, b = np.linalg.svd(inside, full_matrices=False)
        # Newton's iteration ends at the polar factor, from which it keeps roundings.
        np.testing.assert_allclose(u, -0.1 * (6 / 4) ** 0.5 * a @ b, rtol=0, atol=1e-9)

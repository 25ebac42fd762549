"""Dion and APOLLO against their recursions in NumPy float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_soap import gradients, updates

import gradtx
from gradtx._bases.basis import Now
from gradtx._core.random_bits import seed_of


def test_dion_is_that_of_the_paper():
    gs = gradients((4, 6), steps=20)
    with jax.enable_x64(True):
        q = np.asarray(jax.random.normal(jax.random.key(0), (6, 2), "float64"))
    m = np.zeros((4, 6))
    for g, got in zip(gs, updates(gradtx.dion(0.1, 0.9, 2), gs), strict=True):
        m = m + g
        p = np.linalg.qr(m @ q)[0]
        r = m.T @ p
        m = m - (1 - 0.9) * p @ r.T
        q = r / np.linalg.norm(r, axis=0)
        np.testing.assert_allclose(got, -0.1 * np.sqrt(6 / 4) * p @ q.T, rtol=0, atol=1e-9)


def test_apollo_scales_channels_as_adam_does_in_the_projection():
    """In a projection that loses nothing, every channel gets the length of Adam's step."""
    gs = gradients((3, 5), steps=20)
    tx = gradtx.scale_in_basis(gradtx.fixed_basis(), gradtx.scale_by_adam(0.9, 0.999, 1e-8))
    mean, square = np.zeros((3, 5)), np.zeros((3, 5))
    for t, (g, got) in enumerate(zip(gs, updates(tx, gs), strict=True), 1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        adam = mean / (1 - 0.9**t) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
        factor = np.linalg.norm(adam, axis=0) / np.linalg.norm(g, axis=0)
        np.testing.assert_allclose(got, factor * g, rtol=0, atol=1e-9)


def test_apollo_is_that_of_the_paper():
    """Adam in a random projection scales the channels, and the norm grows by a hundredth at most."""
    gs, m, v, before, limited = gradients((3, 5), steps=12), 0.0, 0.0, None, 0
    tx = gradtx.apollo(0.1, 2, update_proj_gap=4, scale=2.0, eps=1e-6)
    for t, (g, got) in enumerate(zip(gs, updates(tx, gs), strict=True)):
        if t % 4 == 0:
            with jax.enable_x64(True):
                key = jax.random.key(seed_of(jnp.int32(t), 0))
                p = np.linalg.qr(jax.random.normal(key, (3, 2), "float64"))[0]
                # The signs of columns are arbitrary, and those of the library are taken.
                p = p * np.sign(np.sum(p * directions(t), 0))
        low = p.T @ g
        m, v = 0.9 * m + 0.1 * low, 0.999 * v + 0.001 * low**2
        adam = m / (1 - 0.9 ** (t + 1)) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-6)
        u = g * np.linalg.norm(adam, axis=0) / np.linalg.norm(low, axis=0)
        norm = np.linalg.norm(u)
        if before is not None and norm > 1.01 * before:
            u, norm, limited = u * 1.01 * before / norm, 1.01 * before, limited + 1
        before = norm
        np.testing.assert_allclose(got, -0.1 * 2 * u, rtol=0, atol=1e-9)
    assert 0 < limited < len(gs)


def directions(t):
    """The projection of the library in step t, of which the signs are taken."""
    basis, x = gradtx.low_rank(2, method="random"), jnp.zeros((1, 3, 5), "float64")
    now = Now(jnp.int32(t), seed_of(jnp.int32(t), 0)[None])
    return np.asarray(basis.refresh(x, basis.init_matrix(x), now).left[0])


def test_the_steps_of_apollo_grow_slowly_and_point_along_the_gradient():
    gs = gradients((3, 5), steps=8)
    got = updates(gradtx.apollo(0.1, 1, update_proj_gap=3), gs)
    sizes = [np.linalg.norm(u) for u in got]
    assert all(b <= 1.01 * a + 1e-12 for a, b in itertools.pairwise(sizes))
    for g, u in zip(gs, got, strict=True):
        cosines = np.sum(-u * g, 0) / np.linalg.norm(u, axis=0) / np.linalg.norm(g, axis=0)
        np.testing.assert_allclose(cosines, 1, atol=1e-9)


@pytest.mark.parametrize("side", ["shorter", "longer", "inputs", "outputs"])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)], ids=str)
def test_a_channel_is_an_entry_of_the_side_that_is_not_projected(shape, side):
    tx = gradtx.scale_in_basis(gradtx.low_rank(2, side=side), gradtx.scale(2.0))
    g = np.arange(1.0, 1.0 + np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], 2 * g, rtol=1e-6)

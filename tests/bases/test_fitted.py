"""The fit of triangular factors against its recursion in NumPy float64, and its fixed point."""

import jax
import jax.numpy as jnp
import numpy as np
from test_soap import gradients, updates

import gradtx
from gradtx._bases.basis import Now
from gradtx._core.random_bits import seed_of


def bound(a):
    """The lower bound of a spectral norm: two steps of the power method from the largest column."""
    x = a[:, np.argmax(np.sum(a**2, 0))]
    for _ in range(2):
        x = a @ (x / np.linalg.norm(x))
    return np.linalg.norm(x)


def fitted(q, a, c, rate):
    if q.ndim == 1:
        first, second = np.sum(a**2, 1), np.sum(c**2, 1)
        return q - rate * (first - second) / np.max(first + second) * q
    first, second = a @ a.T, c @ c.T
    return q - rate * np.triu(first - second) / bound(first + second) @ q


def as_matrix(q):
    return np.diag(q) if q.ndim == 1 else q


def test_a_fit_is_that_of_the_papers():
    basis, shape = gradtx.fitted_whitening(0.3, max_size=4), (4, 6)
    with jax.enable_x64(True):
        state = basis.init_matrix(jax.ShapeDtypeStruct((1, *shape), "float64"))
        left, right = np.eye(4), np.ones(6)
        refresh = jax.jit(
            lambda x, state, seed: basis.refresh(x, state, Now(jnp.int32(0), seed[None]))
        )
        for t, g in enumerate(gradients(shape)):
            seed = jnp.uint32(t)
            v = np.asarray(jax.random.normal(jax.random.key(seed), (1, *shape), "float64")[0])
            h = g + np.finfo("float64").eps ** 0.5 * np.mean(np.abs(g)) * v
            a = as_matrix(left) @ h @ as_matrix(right).T
            c = np.linalg.inv(as_matrix(left)).T @ v @ np.linalg.inv(as_matrix(right))
            left, right = fitted(left, a, c, 0.3), fitted(right, a.T, c.T, 0.3)
            ratio = np.sqrt(np.max(np.abs(right)) / np.max(np.abs(left)))
            left, right = left * ratio, right / ratio
            state = refresh(jnp.asarray(g)[None], state, seed)
            np.testing.assert_allclose(state.left[0], left, rtol=0, atol=1e-9)
            np.testing.assert_allclose(state.right[0, 0], right, rtol=0, atol=1e-9)


def test_psgd_is_that_of_the_paper():
    """Momentum with a bias correction, the fit to it, its whitening, and a bound on the size."""
    gs, m, left, right = gradients((4, 6), steps=20), np.zeros((4, 6)), np.eye(4), np.ones(6)
    tx = gradtx.psgd_kron(0.1, 0.8, max_size_triangular=4, preconditioner_lr=0.3, clip=1.0)
    bounded = 0
    for t, (g, got) in enumerate(zip(gs, updates(tx, gs), strict=True)):
        m = 0.8 * m + 0.2 * g
        signal = m / (1 - 0.8 ** (t + 1))
        with jax.enable_x64(True):
            key = jax.random.key(seed_of(jnp.int32(t), 0))
            v = np.asarray(jax.random.normal(key, (1, 4, 6), "float64")[0])
        h = signal + np.finfo("float64").eps ** 0.5 * np.mean(np.abs(signal)) * v
        a = as_matrix(left) @ h @ as_matrix(right).T
        c = np.linalg.inv(as_matrix(left)).T @ v @ np.linalg.inv(as_matrix(right))
        left, right = fitted(left, a, c, 0.3), fitted(right, a.T, c.T, 0.3)
        u = left.T @ left @ signal @ as_matrix(right).T @ as_matrix(right)
        size = np.sqrt(np.mean(u**2))
        bounded += size > 1
        np.testing.assert_allclose(got, -0.1 * u / max(1, size), rtol=0, atol=1e-9)
    assert 0 < bounded < len(gs)


def test_the_fixed_point_is_the_inverse_root_of_the_covariance():
    basis, scales = gradtx.fitted_whitening(0.02), np.array([1.0, 2.0, 4.0])
    state = basis.init_matrix(jax.ShapeDtypeStruct((1, 3, 3), "float32"))

    def fit(state, t):
        key = jax.random.fold_in(jax.random.key(7), t)
        g = jnp.asarray(scales, "float32")[None, :, None] * jax.random.normal(key, (1, 3, 3))
        return basis.refresh(g, state, Now(t, t.astype(jnp.uint32)[None])), None

    state, _ = jax.lax.scan(fit, state, jnp.arange(4000))
    got = basis.back(basis.into(jnp.eye(3)[None], state), state)[0]
    # The fit fluctuates by the root of its step size, 0.02.
    np.testing.assert_allclose(got, np.diag(1 / scales), rtol=0.4, atol=0.15)


def test_a_factor_is_fitted_as_often_as_its_probability_says():
    basis = gradtx.fitted_whitening(probability=0.25)
    due = basis.due(jnp.arange(4000))
    assert abs(float(jnp.mean(due)) - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5

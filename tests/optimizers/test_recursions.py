"""Recursions in NumPy float64 of what Optax lacks, and where Optax differs from the paper."""

import jax
import jax.numpy as jnp
import numpy as np
from rounding import roundings
from runs import normal, run, steps

import gradtx


def test_rprop_without_backtracking():
    """Riedmiller & Braun (1993), with the step of Igel & Huesken (2000), section 2.2, "Rprop-".

    As in torch: where the sign changes, the step is left out, and the size stays in the next step.
    """
    g = normal(60, 4)
    g[10:14], g[20:40] = 0.0, np.abs(g[20:40])
    size, previous, want = np.full(4, 0.1), np.zeros(4), []
    for x in g:
        agreement = np.sign(x * previous)
        factor = np.select([agreement > 0, agreement < 0], [1.3, 0.4], 1.0)
        size = np.where(agreement == 0, size, np.clip(size * factor, 0.02, 0.5))
        x = np.where(agreement < 0, 0.0, x)
        want.append(-size * np.sign(x))
        previous = x
    got = steps(gradtx.rprop(0.1, 0.4, 1.3, 0.02, 0.5), g)
    # A size is a product of at most sixty factors.
    np.testing.assert_allclose(got, want, roundings(60))
    assert {0.02, 0.5} <= set(np.abs(want).ravel())


def test_adam_atan2():
    """Everett et al. (2024), arXiv:2407.05872, appendix H, with decoupled decay."""
    g, x0 = normal(60, 3) * [1.0, 1e-9, 1e9], np.array([1.0, -2.0, 3.0])
    m, v, x, want = np.zeros(3), np.zeros(3), x0, []
    for t, y in enumerate(g, 1):
        m, v = 0.8 * m + 0.2 * y, 0.9 * v + 0.1 * y**2
        angle = np.arctan2(m / (1 - 0.8**t), np.sqrt(v / (1 - 0.9**t)))
        want.append(-0.1 * (1.5 * angle + 0.01 * x))
        x = x + want[-1]
    got, _ = run(gradtx.adam_atan2(0.1, 0.8, 0.9, 1.5, weight_decay=0.01), g, x0)
    # The averages lose a few roundings per step for 1 / (1 - b) steps; a decay multiplies few of them.
    np.testing.assert_allclose(got, want, atol=roundings(200) * 0.3)


def test_soda_pulls_back_to_the_start():
    """The recursion x_{k+1} = x_k - rate * g_k + (x_0 - x_k) / (k + 2), for k = 0, 1, 2 and so on."""
    g, x0 = normal(40, 3), np.array([1.0, -2.0, 3.0])
    x, want = x0, []
    for k, y in enumerate(g):
        want.append(-0.1 * y + (x0 - x) / (k + 2))
        x = x + want[-1]
    got, _ = run(gradtx.soda(gradtx.sgd(0.1)), g, x0)
    # Four roundings per step; the pull shortens all earlier ones.
    np.testing.assert_allclose(got, want, atol=roundings(4 * 40) * np.abs(want).max())


def test_a_gradient_orthogonal_to_the_parameters_has_their_inner_product_0_and_its_old_norm():
    """Prieto et al. (2025), arXiv:2501.04697, section 5.2."""
    rng = np.random.default_rng(0)
    tx = gradtx.orthogonal_to_params()
    with jax.enable_x64(True):
        for size in (1e-200, 1.0, 1e200):
            w, g = jnp.asarray(rng.normal(size=(3, 4))), size * jnp.asarray(rng.normal(size=(3, 4)))
            u = np.asarray(tx.update(g, tx.init(w), w)[0]) / size
            g = np.asarray(g) / size
            norm = np.linalg.norm(g)
            assert abs(np.linalg.norm(u) / norm - 1) <= roundings(40)
            assert abs(np.vdot(u, w)) <= roundings(40) * norm * np.linalg.norm(w)
            # What was removed is a multiple of the parameters.
            rest = g - u * np.vdot(g, u) / norm**2
            share = np.vdot(rest, w) / np.vdot(w, w)
            np.testing.assert_allclose(rest, share * np.asarray(w), atol=roundings(100) * norm)
        # A gradient along the parameters leaves rounding errors only, which are not enlarged.
        assert not np.any(tx.update(-3.7 * w, tx.init(w), w)[0])
        one = jnp.full((1,), 0.3)
        assert tx.update(2 * one, tx.init(one), one)[0] == 0
        # Where the parameters are 0, every direction is orthogonal to them.
        g = jnp.asarray(rng.normal(size=(3, 4)))
        u = tx.update(g, tx.init(w), jnp.zeros_like(w))[0]
        np.testing.assert_allclose(u, g, roundings(6))


def test_centralized_gradients_have_the_mean_0_along_every_entry_of_the_axis():
    """Yong et al. (2020), arXiv:2004.01461, eq. 1; the outputs of a kernel in JAX are the last axis."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4)), "float32")
    for axis in (0, 1, -1):
        u = gradtx.centralize(axis).update(g, ())[0]
        others = tuple({0, 1, 2} - {axis % 3})
        assert np.abs(np.mean(u, others)).max() <= roundings(24, "float32") * np.abs(g).max()
        np.testing.assert_allclose(
            g - u,
            np.broadcast_to(np.mean(g, others, keepdims=True), g.shape),
            atol=roundings(24, "float32") * np.abs(g).max(),
        )


def test_a_decaying_maximum_forgets_at_its_rate():
    """Kingma & Ba (2014), section 7.1: the maximum of b^(t - s) (|g_s| + eps)."""
    g = normal(30, 3)
    t = np.arange(30)
    seen = steps(gradtx.infinity_moment(0.9, 0.01), g)
    for n in range(30):
        want = np.max(0.9 ** (n - t[: n + 1])[:, None] * (np.abs(g[: n + 1]) + 0.01), 0)
        np.testing.assert_allclose(seen[n], want, roundings(40))


def test_polyak_steps_halve_the_distance_on_a_quadratic_and_do_not_overflow():
    """Polyak (1987), section 5.3: on |x|^2 / 2 the step is x / 2, and sums of squares stay finite."""
    tx = gradtx.scale_by_polyak(max_learning_rate=1e9)
    for size in (1e-18, 1.0, 1e18):
        x = size * jnp.array([3.0, 4.0])
        u = tx.update(x, tx.init(x), value=12.5 * size**2)[0]
        np.testing.assert_allclose(u, 0.5 * np.asarray(x), roundings(12, "float32"))
    x = jnp.array([3e30, 4e30])
    u = tx.update(x, tx.init(x), value=5e30)[0]  # 5e30 / 25e60 of the gradient
    np.testing.assert_allclose(u, [0.6, 0.8], roundings(12, "float32"))

"""AdaGrad against closed forms and the bounds of its paper: Duchi, Hazan and Singer (2011)."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from rounding import roundings
from runs import normal, rng, rotation, run, steps, steps_of

from gradtx import (
    adagrad,
    chain,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
)

PLAIN = adagrad(1.0, 0.0, 0.0)


def test_a_constant_gradient_gives_steps_of_one_over_the_root_of_time():
    """The sum of t equal squares is t g^2; sums of 1 / sqrt(t) lie between two integrals."""
    g = np.full((200, 3), [0.1, -7.0, 1e5])
    updates, theta = run(PLAIN, g)
    t = np.arange(1, 201)[:, None]
    # A sum keeps the roundings of all its steps; its square root halves their relative error.
    assert_allclose(updates, -np.sign(g) * cf.adagrad_constant_step(t), roundings(200 / 2 + 5))
    low, high = cf.adagrad_displacement_bounds(200)
    assert np.all((low <= np.abs(theta[-1])) & (np.abs(theta[-1]) <= high))


def test_the_sum_of_steps_times_gradients_is_bounded():
    """Duchi et al. (2011), Lemma 4: sum g_t^2 / sqrt(G_t) <= 2 sqrt(G_T)."""
    t = np.arange(1.0, 301)[:, None]
    g = np.hstack([0 * t + 2, normal(300, 4), 1.05**t, 0.95**t])
    sums = -np.sum(g * steps(PLAIN, g), 0)
    want, bound = cf.adagrad_lemma(g)
    # Twice 300 additions of positive numbers.
    assert_allclose(sums, want, roundings(2 * 300))
    assert np.all(sums <= bound)


def test_its_regret_in_a_box_is_bounded():
    """Duchi et al. (2011), Theorem 5, for linear losses and the diagonal form, whatever plays."""
    lr, radius, n = 0.3, 1.0, 300
    noise, rare = normal(n, 4), normal(n, 4) * (rng(1).random((n, 4)) < 0.05)
    tx = adagrad(lr, 0.0, 0.0)
    with jax.enable_x64(True):

        def body(carry, rows):
            x, state = carry
            noise, rare = rows
            # The adversary that moves away from where the player stands.
            away = jnp.where(x["against"] >= 0, 1.0, -1.0) * jnp.abs(noise)
            g = {"signs": jnp.sign(noise), "noise": noise, "against": away, "rare": rare}
            updates, state = tx.update(g, state)
            moved = jax.tree.map(lambda x, u: jnp.clip(x + u, -radius, radius), x, updates)
            return (moved, state), (g, x)

        x = {kind: jnp.full(4, 0.5) for kind in ("signs", "noise", "against", "rare")}
        rows = jnp.asarray(noise), jnp.asarray(rare)
        gradients, points = jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), rows)[1])()
    for kind in x:
        g = np.asarray(gradients[kind])
        regret = np.sum(g * np.asarray(points[kind])) + radius * np.abs(g.sum(0)).sum()
        assert regret <= cf.adagrad_regret_bound(g, np.full(4, 2 * radius), lr), kind
        assert kind != "against" or regret > 0  # the bound has something to bound


def test_the_full_matrix_turns_with_its_gradients_and_the_diagonal_does_not():
    """Duchi et al. (2011), section 1.1: (Q G Q^T)^(-1/2) Q g = Q G^(-1/2) g for a rotation Q."""
    g, q = normal(30, 5), rotation(5)
    axes = np.eye(5)[rng(1).integers(5, size=30)] * normal(30, 1)
    runs = {"plain": g, "turned": g @ q.T, "axes": axes, "one": g[:, :1]}
    full, diagonal = steps_of(
        [chain(scale_by_full_matrix_adagrad(0.0), scale_by_learning_rate(1.0)), PLAIN], runs
    )
    first = -g[0] / np.linalg.norm(g[0])
    assert_allclose(full["plain"][0], first, rtol=0, atol=roundings(30))
    # An eigenvalue is off by some roundings of the largest one, so that the quotient by its root is off
    # by that times the condition number, at worst at any step.
    error = roundings(30 * 5) * max(map(_condition, (g, axes)))
    assert_allclose(full["turned"], full["plain"] @ q.T, rtol=0, atol=error)
    assert np.max(np.abs(diagonal["turned"] - diagonal["plain"] @ q.T)) > 0.1
    for same in ("axes", "one"):
        assert_allclose(full[same], diagonal[same], rtol=0, atol=error)


def _condition(g):
    """The largest quotient of two eigenvalues that are not zero, over the sums up to each step."""
    sums = np.cumsum(g[:, :, None] * g[:, None, :], 0)
    values = np.linalg.eigvalsh(sums)
    largest = values[:, -1:]
    return np.max(largest / np.where(values > 1e-12 * largest, values, largest))


def test_the_largest_float32_sum_of_squares_still_divides():
    u = steps(PLAIN, np.full((40, 1), 3e38), dtype="float32")
    assert np.all(np.isfinite(u)) and np.all(u < -0.1)

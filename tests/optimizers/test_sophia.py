"""Sophia beside Optax, and Hutchinson's estimate of the diagonal of a Hessian. In float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rounding import roundings

import gradtx

CURVATURE = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])


def loss(x):
    """A quadratic whose Hessian is not diagonal, and a quartic, so that the Hessian changes."""
    return jnp.vdot(x, CURVATURE @ x) / 2 + jnp.sum(x**4)


def run(tx, steps, **functions):
    """The updates of a number of steps from one point."""
    gradient = jax.grad(loss)

    @functools.partial(jax.jit, static_argnums=0)
    def all_steps(tx):
        def body(carry, _):
            x, state = carry
            u, state = tx.update(gradient(x), state, x, **functions)
            return (x + u, state), u

        x = jnp.array([1.0, -0.5, 2.0])
        return jax.lax.scan(body, (x, tx.init(x)), length=steps)[1]

    return np.asarray(all_steps(tx))


def test_the_updates_are_those_of_optax():
    """With the random numbers of Optax, and the Hessian of the step before, as in the authors' code."""
    with jax.enable_x64(True):
        ours = gradtx.sophia(0.05, gamma=0.1, update_interval=3)
        key = jax.random.PRNGKey(0)
        theirs = optax.contrib.sophia(
            0.05,
            gamma=0.1,
            update_interval=3,
            hessian_diagonal_fn=optax.contrib.hutchinson_estimator_diag_hessian(key),
        )
        got = run(ours, 40, obj_fn=loss)
        with jax.numpy_dtype_promotion("standard"):  # Optax needs it
            want = run(theirs, 40, obj_fn=loss)
        # The iterates approach the minimum, and the map from one to the next one contracts.
        np.testing.assert_allclose(got, want, atol=roundings(200) * np.abs(want).max())
        assert np.abs(want[-1]).max() < np.abs(want[0]).max()


def test_the_estimate_is_right_on_average_and_each_one_is_a_product_with_signs():
    """Hutchinson (1989): r * (H r) with random signs r, whose mean is the diagonal."""
    with jax.enable_x64(True):
        tx = gradtx.hutchinson_estimator_diag_hessian(5)
        x = jnp.zeros(3)
        gradient = jax.grad(loss)

        def body(state, _):
            u, state = tx.update(x, state, x, grad_fn=gradient)
            return state, u

        seen = np.asarray(jax.jit(lambda s: jax.lax.scan(body, s, length=400)[1])(tx.init(x)))
        signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
        possible = {tuple(r * (CURVATURE @ r)) for r in signs}
        assert {tuple(u) for u in seen.tolist()} == possible
        # The standard deviation of an entry is at most the sum of the others of its row, 2 here.
        assert np.all(np.abs(seen.mean(0) - np.diag(CURVATURE)) < 5 * 2 / 400**0.5)


def test_an_average_is_refreshed_at_every_kth_step():
    """The recursion of Liu et al. (2023), algorithm 3, lines 5 to 9."""
    g = np.arange(1.0, 8.0)
    tx = gradtx.refreshed_average(gradtx.scale(2.0), 0.75, 3)
    late = gradtx.refreshed_average(gradtx.scale(2.0), 0.75, 3, late=True)
    h, want = 0.0, []
    for t, x in enumerate(g):
        h = 0.75 * h + 0.25 * 2 * x if t % 3 == 0 else h
        want.append(h)
    for each, expected in ((tx, want), (late, [0.0, *want[:-1]])):
        state, got = each.init(jnp.zeros(())), []
        for x in g:
            u, state = each.update(jnp.float32(x), state)
            got.append(float(u))
        np.testing.assert_array_equal(got, expected)  # these numbers have few digits


def test_a_huge_complex_gradient_is_clipped_and_forgotten():
    """The momentum over the curvature overflows at once, and is huge for a while."""
    tx, w = gradtx.sophia(0.1, weight_decay=0.0), jnp.ones(1, "complex64")
    state = tx.init(w)
    for size in (1.0, 3e38, 1e-3):
        g = jnp.full_like(w, size * (1 + 1j))
        u, state = tx.update(g, state, w, obj_fn=lambda w: jnp.sum(jnp.abs(w) ** 4))
        np.testing.assert_allclose(u, [-0.1 * 0.5**0.5 * (1 + 1j)], rtol=1e-5)


def test_the_estimate_of_a_complex_entry_is_that_of_its_real_part():
    """An imaginary part would turn the step of `sophia` away from the gradient."""
    tx, w = gradtx.hutchinson_estimator_diag_hessian(), jnp.ones(1, "complex64")
    u, _ = tx.update(w, tx.init(w), w, obj_fn=lambda w: jnp.sum(w.real**2 + 3 * w.real * w.imag))
    np.testing.assert_array_equal(u, [2.0])

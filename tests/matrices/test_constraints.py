"""Transformations that see the parameters and take the last step, against closed forms. In float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from rounding import mixed_roundings, roundings
from runs import normal, run, run_all

import gradtx
from gradtx import (
    brake_radial,
    chain,
    floor_update_ratio,
    hidden_matrices,
    hyperball,
    keep_norm,
    radial_step,
    scale_by_learning_rate,
    scale_by_sign,
)

STEPS, SHAPE = 30, (5, 3)
W = normal(1, *SHAPE)[0]
G = normal(STEPS, *SHAPE) * np.geomspace(1e3, 1e-3, STEPS)[:, None, None]
# A norm of 15 entries in two places, and ten operations, per step.
ERROR = roundings(60 * STEPS)


def norm(x):
    return np.linalg.norm(x, axis=(-2, -1), keepdims=True)


def falling(count):
    return 0.3 / (1.0 + count)


def test_a_step_on_the_hyperball_is_that_of_its_equation_and_the_norm_stays():
    """arXiv:2606.16899: W' = W - eta R d / |d|, and then R W' / |W'|."""
    (_, points), (_, given) = run_all([hyperball(falling), hyperball(falling, radius=7.0)], G, W)
    for radius, seen in ((norm(W), points), (7.0, given)):
        w = W
        for t, g in enumerate(G):
            w = w - falling(t) * radius * g / norm(g)
            w = radius * w / norm(w)
            assert_allclose(seen[t], w, ERROR, ERROR)
        assert_allclose(norm(seen), radius * np.ones((STEPS, 1, 1)), ERROR)


def test_a_small_rate_is_the_angle_of_a_step_at_a_right_angle():
    g = np.array([[0.0, 2.0], [0.0, 0.0]])
    w = np.array([[5.0, 0.0], [0.0, 0.0]])
    ((_, points),) = run_all([hyperball(0.01)], g[None], w)
    assert_allclose(np.arctan2(-points[0, 0, 1], points[0, 0, 0]), np.arctan(0.01), roundings(40))


def test_stacked_and_fused_matrices_keep_their_own_norms():
    w = normal(2, 2, 4, 6)[0] * np.array([1.0, 10.0])[:, None, None]
    fused = hyperball(0.3, axes=hidden_matrices(blocks={"qkv": 3}))
    ((_, points),) = run_all([fused], {"qkv": normal(STEPS, 2, 4, 6)}, {"qkv": w})
    for part in range(3):
        own = np.s_[..., 2 * part : 2 * part + 2]
        assert_allclose(norm(points["qkv"][-1][own]), norm(w[own]), ERROR)
    shapes = jax.tree.map(jnp.shape, fused.init({"qkv": jnp.asarray(w, "f4")}).radius)
    assert shapes == {"qkv": (2, 1, 3)}


def test_zeros_stay_and_a_radius_moves_them():
    w = np.zeros(SHAPE)
    (_, still), (_, moved) = run_all([hyperball(0.1), hyperball(0.1, radius=2.0)], G, w)
    assert not still.any()
    assert_allclose(moved[0], -2 * G[0] / norm(G[0]), ERROR)


def test_the_learning_rate_of_a_constraint_is_read_like_any_other():
    w = jnp.ones((2, 2))
    for tx in (hyperball(falling), radial_step(falling)):
        state = tx.init(w)
        assert gradtx.readings(state) == {"learning_rate": np.float32(0.3)}
        _, state = tx.update(w, tx.update(w, state, w)[1], w)
        assert_allclose(gradtx.get(state, "last_learning_rate"), 0.15, 1e-7)


def split(g, w):
    """The radial part of g and the rest."""
    radial = np.sum(g * w, (-2, -1), keepdims=True) / norm(w) ** 2 * w
    return radial, g - radial


@pytest.mark.parametrize(("outward", "inward"), [(0.5, 1.0), (0.0, 0.0), (2.0, 0.25)])
def test_a_brake_multiplies_the_radial_part_alone(outward, inward):
    u, _ = run(brake_radial(outward, inward), G, W)
    w = W
    for g, got in zip(G, u, strict=True):
        radial, rest = split(g, w)
        factor = outward if np.sum(g * w) < 0 else inward
        assert_allclose(got, factor * radial + rest, ERROR, ERROR * norm(g).item())
        w = w + got


def test_the_norm_changes_by_the_radial_part_of_a_step_alone():
    ((_, points),) = run_all([radial_step(1e-3)], G, W)
    before = np.concatenate([W[None], points[:-1]])
    radial = np.sum(G * before, (1, 2), keepdims=True) / norm(before)
    assert_allclose(norm(points), np.maximum(norm(before) - 1e-3 * radial, 0), ERROR)
    along = before - 1e-3 * G  # in the direction of the plain step
    assert_allclose(points / norm(points), along / norm(along), ERROR, ERROR)


def test_a_tangential_step_stays_on_the_sphere_and_equals_that_of_the_hyperball():
    """Without a radial part, the two constraints differ in the length of the step alone."""
    (_, points), (_, plain) = run_all(
        [chain(brake_radial(0.0, 0.0), radial_step(1e-3)), scale_by_learning_rate(1e-3)], G, W
    )
    assert_allclose(norm(points), norm(W) * np.ones((STEPS, 1, 1)), ERROR)
    assert np.max(np.abs(norm(plain) / norm(W) - 1)) > 0.01


@pytest.mark.parametrize("per", ["matrix", "row"])
def test_an_update_is_never_smaller_than_its_fraction_of_the_weights(per):
    axes = (1, 2) if per == "matrix" else (1,)  # a row, which is an output, is a column here
    ((u, points),) = run_all([floor_update_ratio(0.35, per)], G, W)
    before = np.concatenate([W[None], points[:-1]])
    sizes = [np.sqrt(np.sum(x**2, axes, keepdims=True)) for x in (G, before)]
    factor = np.maximum(1, 0.35 * sizes[1] / sizes[0])
    assert factor.max() > 10 and factor.min() == 1
    assert_allclose(u, factor * G, ERROR)


def test_rows_share_the_norm_of_their_matrix():
    tx = keep_norm(floor_update_ratio(0.5, "row"))
    u, _ = run(tx, G, W)
    assert_allclose(norm(u), norm(G), ERROR)


def test_an_update_without_parameters_and_a_vector_are_refused():
    g = jnp.ones((2, 2))
    for tx in (hyperball(0.1), brake_radial(), radial_step(0.1), floor_update_ratio()):
        with pytest.raises(ValueError, match="parameters"):
            tx.update(g, tx.init(g))
        with pytest.raises(ValueError, match=f"{type(tx).__name__}.*`bias` of shape"):
            tx.init({"bias": jnp.ones(2)})
        with pytest.raises(TypeError, match="must be a rule"):
            gradtx.replace(tx, axes=3)


def test_a_sign_step_on_the_hyperball_does_not_depend_on_the_size_of_the_gradient():
    (a, _), (b, _) = (
        run(chain(scale_by_sign(), hyperball(0.1)), size * G, W) for size in (1.0, 1e200)
    )
    assert_allclose(a, b, ERROR)


@pytest.mark.parametrize(
    "tx", [hyperball(1e-4), gradtx.weight_norm(gradtx.sgd(1e-4), gradtx.sgd(1e-4))], ids=str
)
def test_roundings_of_many_small_steps_on_a_sphere_do_not_all_have_one_sign(tx):
    """A step of 1e-4 is brought back to the sphere by a factor that differs from 1 by less than 1e-7."""

    def last(dtype, steps=10_000):
        g, w = jnp.asarray(noise, dtype), jnp.asarray(start, dtype)

        def body(carry, i):
            w, state = carry
            u, state = tx.update(g[i % len(g)], state, w)
            return (w + u, state), None

        return jax.jit(lambda: jax.lax.scan(body, (w, tx.init(w)), jnp.arange(steps))[0][0])()

    noise, start = (np.float32(normal(seed, *s)[0]) for seed, s in ((4, (997, 3, 4)), (5, (3, 4))))
    got = np.asarray(last("float32"))
    with jax.enable_x64(True):
        want = np.asarray(last("float64"))
    # Every step rounds the parameter once, in either direction.
    assert np.abs(got - want).max() < mixed_roundings(10_000, "float32") * np.abs(want).max()

"""Newton-Schulz against singular value decompositions in float64."""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import KELLER, polar_factor
from runs import normal, rotation, steps

from gradtx import (
    chain,
    newton_schulz,
    orthogonalize_newton_schulz,
    scale_by_momentum,
)  # fmt: skip


def orthogonalized(x, coefficients=KELLER, steps=5, dtype="float64"):
    with jax.enable_x64(dtype == "float64"):
        return np.asarray(newton_schulz(jnp.asarray(x, dtype), coefficients, steps=steps))


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_oracle_35_newton_schulz_acts_on_singular_values_alone(shape):
    x = normal(*shape)
    want = cf.newton_schulz_by_svd(x, eps=0.0)
    assert_allclose(orthogonalized(x), want, rtol=0, atol=2e-13)
    narrow = orthogonalized(x, dtype="float32")
    assert np.linalg.norm(narrow - want) < 3e-6 * np.linalg.norm(want)


def test_oracle_36_convergent_coefficients_give_the_polar_factor():
    x = normal(8, 5)
    assert_allclose(
        orthogonalized(x, (15 / 8, -10 / 8, 3 / 8), 20), polar_factor(x), rtol=0, atol=1e-14
    )


def test_oracle_37_what_the_iteration_makes_of_special_matrices():
    x = normal(8, 5)
    u = polar_factor(x)
    assert_allclose(np.sum(x * u), np.linalg.norm(x, "nuc"), 1e-12)
    assert_allclose(np.sum(u**2), 5, 1e-12)
    np.testing.assert_array_equal(orthogonalized(-x), -orthogonalized(x))
    np.testing.assert_array_equal(orthogonalized(x.T), orthogonalized(x).T)
    np.testing.assert_array_equal(orthogonalized(0 * x), 0 * x)
    one = np.outer(x[:, 0], x[0])
    sigma = np.linalg.svd(orthogonalized(one), compute_uv=False)
    assert_allclose(sigma, [0.696436, 0, 0, 0, 0], atol=1e-6)
    assert_allclose(np.linalg.svd(orthogonalized(rotation(16)), compute_uv=False), 0.714526, 1e-6)
    assert_allclose(np.linalg.norm(orthogonalized(normal(1, 9))), 0.6964, 1e-4)


@pytest.mark.parametrize("scale_of_gradients", [1.0, 1e-3, 1e-8, 1e-20])
def test_oracle_38_muons_average_and_heavy_ball_are_one_method(scale_of_gradients):
    def tx(form):
        return chain(
            scale_by_momentum(0.9, form, nesterov=True),
            orthogonalize_newton_schulz(),
        )

    g = normal(20, 6, 4)
    u = steps(tx("ema"), g)
    # The norm has no epsilon to add, so that no size is too small.
    assert_allclose(steps(tx("heavy_ball"), scale_of_gradients * g), u, rtol=0, atol=1e-11)

"""Newton-Schulz in float64, against what singular value decompositions say that it computes.

The iteration is an odd polynomial of the singular values (Higham, 2008, Functions of Matrices, section
8.3), so U p(S) V^T is its result. A rounding moves singular vectors too, by a quotient of differences of
p, which is at most the slope of p at zero.
"""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import KELLER, polar_factor
from rounding import roundings
from runs import normal, rotation, steps_of

from gradtx import chain, newton_schulz, orthogonalize_newton_schulz, scale_by_momentum
from gradtx._matrices.polynomials import resolve_coefficients

SLOPE = KELLER[0] ** 5  # of five steps at zero
MATRICES = {
    "tall": normal(8, 5),
    "wide": normal(5, 8),
    "square": normal(6, 6),
    "rank one": np.outer(normal(8), normal(5)),
    "orthogonal": rotation(16),
    "row": normal(1, 9),
    "zero": np.zeros((3, 4)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_singular_values_follow_the_polynomial_and_singular_vectors_stay(dtype):
    with jax.enable_x64(dtype == "float64"):
        tree = {name: jnp.asarray(x, dtype) for name, x in MATRICES.items()}
        function = jax.jit(lambda x: jax.tree.map(lambda x: newton_schulz(x, KELLER, steps=5), x))
        results = jax.tree.map(np.asarray, function(tree))
    for name, x in MATRICES.items():
        want = cf.newton_schulz_by_svd(x, eps=0.0) if np.any(x) else x
        # A product has as many roundings as terms, and those of the first steps are magnified most.
        error = roundings(max(x.shape) * SLOPE, dtype)
        assert_allclose(results[name], want, rtol=0, atol=error, err_msg=name)
        if name in ("tall", "wide", "square"):
            # No singular value is small here, so that as a whole the result is much nearer: fifteen
            # products, which small singular values magnify.
            sigma = np.linalg.svd(x / np.linalg.norm(x), compute_uv=False)
            difference = np.linalg.norm(results[name] - want) / np.linalg.norm(want)
            assert difference < roundings(15 * max(x.shape) / sigma.min(), dtype), name


def test_coefficients_that_converge_give_the_polar_factor():
    """x (15 - 10 x^2 + 3 x^4) / 8 has the fixed point 1, with two derivatives that vanish there."""
    x = MATRICES["tall"]
    with jax.enable_x64(True):
        got = jax.jit(lambda x: newton_schulz(x, (15 / 8, -10 / 8, 3 / 8), steps=20))(x)
    # The polar factor moves by what the matrix is off, over its smallest singular value.
    error = roundings(15 * 8) * np.linalg.norm(x) / np.linalg.svd(x, compute_uv=False).min()
    assert_allclose(got, polar_factor(x), rtol=0, atol=error)


def test_muons_average_and_its_heavy_ball_are_one_method_whatever_the_gradients_size():
    """One buffer is 1 - b times the other, and the iteration divides by the norm, without an epsilon
    to add to it: Jordan et al. (2024), Muon."""
    average, ball = (
        chain(scale_by_momentum(0.9, form, nesterov=True), orthogonalize_newton_schulz())
        for form in ("ema", "heavy_ball")
    )
    sizes = np.array([1.0, 1e-3, 1e-8, 1e-20])
    # A stack of matrices, one for each size: they are orthogonalized one by one.
    g = normal(20, 6, 4)[:, None] * sizes[:, None, None]
    u, other = steps_of([average, ball], g)
    # For either: three roundings per step, for 1 / (1 - b) steps, and fifteen products of six terms.
    slope = np.prod([a for a, _, _ in resolve_coefficients()])
    error = roundings(2 * (3 / (1 - 0.9) + 15 * 6)) * slope
    for every in (u, other):
        assert_allclose(every, np.broadcast_to(u[:, :1], u.shape), rtol=0, atol=error)

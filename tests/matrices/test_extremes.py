"""Matrices whose entries are the largest, or nearly the least, of all numbers keep their direction.

A size that is divided out may not be as large as the largest number, because its reciprocal, by which
XLA multiplies, would count as zero. Nor may it be so small that its reciprocal is infinite.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import roundings

import gradtx

G = np.array([[1.0, 0.0, -1.0, 0.25], [0.5, -0.125, 0.0, 1.0], [0.0, 0.5, 0.25, -0.5]], np.float32)
SIZES = float(np.finfo("float32").max), 2.0**100, 2.0**-100
# What does not change if the gradient is multiplied by a number, and what is multiplied by it, too.
OF_DEGREE_0 = [
    gradtx.orthogonalize_newton_schulz(precision="highest"),
    gradtx.orthogonalize_balanced(precision="highest"),
    gradtx.equilibrate_rows(),
    gradtx.scale_to_rms(),
]
OF_DEGREE_1 = [
    gradtx.keep_norm(gradtx.scale_by_sign()),
    gradtx.matrix_norm(rms=True),
    gradtx.block_norm(rms=True),
]


def update(tx, g):
    return np.asarray(
        tx.update(jnp.asarray(g), tx.init(jnp.zeros(G.shape)), jnp.zeros(G.shape))[0], "f8"
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tx", OF_DEGREE_0, ids=str)
def test_a_direction_does_not_depend_on_the_size_of_the_gradient(tx, size):
    np.testing.assert_allclose(
        update(tx, G * np.float32(size)), update(tx, G), atol=roundings(1000, "float32")
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tx", OF_DEGREE_1, ids=str)
def test_a_norm_grows_with_the_size_of_the_gradient(tx, size):
    got = update(tx, G * np.float32(size)) / size
    np.testing.assert_allclose(got, update(tx, G), atol=roundings(100, "float32"))


def test_the_smallest_gradient_has_directions_of_low_rank_as_any_other():
    """Entries of a size whose squares overflow are clipped, because this transformation has a state."""
    tx = gradtx.orthogonalize_low_rank(0.0, rank=2)
    small = update(tx, G * np.float32(SIZES[-1]))
    np.testing.assert_allclose(small, update(tx, G), atol=roundings(1000, "float32"))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 3)])
@pytest.mark.parametrize("tx", [*OF_DEGREE_0, *OF_DEGREE_1], ids=str)
def test_numbers_that_are_not_normal_give_no_nan(tx, shape):
    """A CPU takes them for zero in a division, and not always in the comparison before it (found by
    fuzzing)."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=shape) * 1e-40, jnp.float32)
    updates = jax.jit(lambda g: tx.update(g, tx.init(g), g)[0])(g)
    assert np.all(np.isfinite(updates))

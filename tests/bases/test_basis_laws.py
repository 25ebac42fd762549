"""The laws of a basis by itself: `back` is the adjoint, and inner states are carried as stated."""

import pathlib
import re

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import roundings
from test_in_basis import each_basis
from test_soap import gradients, updates

import gradtx
from gradtx import in_basis
from gradtx._bases.basis import Now

SHAPE = 2, 3, 4


def normal(rng, shape, dtype):
    x = rng.normal(size=(2, *shape))
    return jnp.asarray(x[0] + 1j * x[1] if dtype == "complex128" else x[0], dtype)


@each_basis
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_return_is_the_adjoint(basis, dtype):
    """<B x, y> = <x, B^H y>, after two gradients that the basis has learned from."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):

        @jax.jit
        def products(gs, x, y):
            state = basis.init_matrix(jax.ShapeDtypeStruct(SHAPE, dtype))
            for i, g in enumerate(gs):
                now = Now(jnp.int32(i), jnp.full(SHAPE[0], i, jnp.uint32))
                state = basis.refresh(g, basis.learn(g, state, now), now)
            there, here = basis.into(x, state), basis.back(y, state)
            assert there.shape == y.shape and here.shape == x.shape
            return jnp.vdot(y, there), jnp.vdot(here, x), jnp.linalg.norm(there)

        inside = SHAPE[0], *basis.size(*SHAPE[1:])
        x, y = normal(rng, SHAPE, dtype), normal(rng, inside, dtype)
        a, b, size = products([normal(rng, SHAPE, dtype) for _ in range(2)], x, y)
        # Two products on each side, and a sum over all entries.
        atol = roundings(4 * x.size) * float(size * jnp.linalg.norm(y))
        assert float(size) > 0.1
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "basis", [gradtx.whitening(0.8, every=2), gradtx.fitted_whitening(0.1)], ids=["roots", "fitted"]
)
def test_a_whitening_carries_the_numbers_of_the_inner_state_unchanged(basis):
    """So "carry" and "keep" are the same, while taking it back and forth would not be."""
    gs, tx = gradients((3, 3), steps=5), in_basis(basis, gradtx.scale_by_adam())
    kept = updates(gradtx.replace(tx, on_refresh="keep"), gs)
    np.testing.assert_array_equal(updates(tx, gs), kept)
    anew = updates(gradtx.replace(tx, on_refresh="reset"), gs)
    assert np.abs(np.subtract(anew, kept)).max() > 1e-3


def test_a_blocked_basis_carries_the_inner_state_of_every_block_as_its_basis_does():
    basis, gs = gradtx.eigenbasis(0.8, every=2), gradients((4, 5), steps=7)
    inner = gradtx.scale_by_adam(0.8, 0.9)  # an average turns, and a mean square is sorted
    got = updates(in_basis(gradtx.blocked(basis, 2), inner), gs)
    for rows in (slice(0, 2), slice(2, 4)):
        for columns in (slice(0, 2), slice(2, 4), slice(4, 5)):
            want = updates(in_basis(basis, inner), [g[rows, columns] for g in gs])
            for u, w in zip(got, want, strict=True):
                # Eigenvectors are computed to about 1e-13, and Adam divides by entries down to 1e-3.
                np.testing.assert_allclose(u[rows, columns], w, rtol=0, atol=1e-9)


def primitives(jaxpr):
    """The names of all primitives in a program, and of those in the programs that it calls."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inside in jax.extend.core.jaxprs_in_params(equation.params):
            yield from primitives(inside)


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_refresh_is_a_branch_under_vmap_if_the_state_is_made_inside(is_inside):
    """Otherwise the counters differ between the runs, and every step computes the refresh."""
    tx = in_basis(gradtx.low_rank(1, every=5), gradtx.scale_by_momentum())
    g = jnp.ones((3, 4))

    def step(rate, state):
        return tx.update(rate * g, tx.init(g) if is_inside else state)[0]

    rates = jnp.ones(2)
    states = jax.vmap(lambda _: tx.init(g))(rates)
    found = list(primitives(jax.make_jaxpr(jax.vmap(step))(rates, states).jaxpr))
    assert ("cond" in found) is is_inside


def test_the_file_of_a_basis_names_no_optimizer():
    """Any transformation stands in any basis; `in_basis` and advice may name what is made of it."""
    recipes = pathlib.Path(gradtx.__file__).parent / "_optimizers"
    code = "".join(path.read_text() for path in recipes.glob("*.py"))
    names = set(re.findall(r"^class ([a-z]\w+)\(Recipe\)", code, re.MULTILINE))
    assert {"shampoo", "galore", "soap_muon"} <= names
    for path in (recipes.parent / "_bases").glob("*.py"):
        if path.stem not in ("in_basis", "traffic"):
            words = set(re.findall(r"\w+", path.read_text().lower()))
            assert words & names == set(), path.name

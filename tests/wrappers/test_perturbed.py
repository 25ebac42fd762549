"""`perturbed`: gradients at other parameters, from a function that the caller or `make_step` gives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latex_pages import check_latex, undefined
from numpy.testing import assert_allclose
from rounding import roundings

import gradtx
from gradtx import asam, dynamic_loss_scale, masked, perturbed, sam, scale, sgd


def loss(params, x=2.0):
    return sum(jnp.sum(p.astype("float32") ** 4) for p in jax.tree.leaves(params)) * x


EXTRAGRADIENT = perturbed(sgd(0.1), scale(-0.01))


def want(p, x=2.0):
    """Korpelevich (1976): the gradient after a step, taken from before it."""
    g = lambda p: 4 * x * p**3
    return p - 0.1 * g(p - 0.01 * g(p))


def test_takes_the_gradient_at_the_perturbed_parameters():
    p = jnp.asarray([0.5, -1.0])
    u, _ = EXTRAGRADIENT.update(jax.grad(loss)(p), EXTRAGRADIENT.init(p), p, grad_fn=jax.grad(loss))
    assert_allclose(p + u, want(np.asarray(p)), rtol=roundings(20, "float32"))


def test_sharpness_aware_minimization_takes_the_gradient_uphill():
    """Foret et al. (2020), eq. 2, and Kwon et al. (2021), eq. 9, with |theta| + eta as the scale."""
    p = {"a": np.array([0.5, -1.0]), "b": np.array([0.25])}
    g = {k: 8 * x**3 for k, x in p.items()}
    size = {k: abs(x) + 0.01 for k, x in p.items()}

    def uphill(scale, rho):
        norm = np.sqrt(sum(np.sum((scale[k] * g[k]) ** 2) for k in p))
        return {k: rho * scale[k] ** 2 * g[k] / norm for k in p}

    ones = {k: np.ones_like(x) for k, x in p.items()}
    for tx, step in (sam(sgd(0.1), 0.3), uphill(ones, 0.3)), (asam(sgd(0.1)), uphill(size, 0.5)):
        params = jax.tree.map(lambda x: jnp.asarray(x, "float32"), p)
        u, _ = tx.update(jax.grad(loss)(params), tx.init(params), params, grad_fn=jax.grad(loss))
        for k in p:
            want = -0.1 * 8 * (p[k] + step[k]) ** 3
            assert_allclose(u[k], want, rtol=roundings(60, "float32"))


def test_a_zero_gradient_perturbs_nothing():
    p = jnp.zeros(2)
    for tx in sam(sgd(0.1)), asam(sgd(0.1)):
        u, _ = tx.update(p, tx.init(p), p, grad_fn=jax.grad(loss))
        assert (u == 0).all()


def test_arguments_of_optax_are_answered():
    with pytest.raises(TypeError, match=r"perturbed\(optimizer, perturbation\)"):
        sam(sgd(0.1), adv_optimizer=sgd(0.1))  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_compiled_step_passes_the_function_with_whole_trees_in_their_own_dtypes(dtype):
    params = {"w": jnp.asarray([[0.5, -1.0]], dtype), "b": jnp.ones(2, dtype), "n": jnp.arange(3)}

    def strict(params, x):
        assert params["w"].dtype == params["b"].dtype == jnp.dtype(dtype)
        assert params["n"].dtype == jnp.int32
        return loss({"w": params["w"], "b": params["b"]}, x)

    step = gradtx.make_step(strict, donate=False)
    tx = masked(EXTRAGRADIENT, gradtx.by_rank(2))
    new, _, metrics = step(tx, params, tx.init(params), 2.0)
    rtol = roundings(40, dtype)
    assert_allclose(new["w"].astype("float32"), want(np.array([[0.5, -1.0]])), rtol=rtol)
    assert_allclose(metrics["loss"], loss({"w": params["w"], "b": params["b"]}, 2.0))


def test_perturbed_gradients_of_a_scaled_loss_are_divided_by_its_scale():
    step = gradtx.make_step(loss, donate=False)
    p = jnp.asarray([0.5, -1.0])
    for tx in (EXTRAGRADIENT, dynamic_loss_scale(EXTRAGRADIENT, init_scale=1024.0)):
        new, _, _ = step(tx, p, tx.init(p), 2.0)
        assert_allclose(new, want(np.asarray(p)), rtol=roundings(20, "float32"))


def test_an_equinox_model_is_perturbed_as_a_whole():
    model = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    step = gradtx.make_step(lambda m, x: jnp.sum(m(x) ** 2), donate=False)
    tx = perturbed(sgd(1.0), scale(0.0))
    new, _, _ = step(tx, model, tx.init(model), jnp.ones(2))
    plain, _, _ = step(sgd(1.0), model, sgd(1.0).init(model), jnp.ones(2))
    assert_allclose(new.weight, plain.weight, rtol=roundings(4, "float32"))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, ValueError, r"grad_fn=jax.grad\(loss\)"),
        ({"grad_fn": 3.0}, TypeError, "must be a function of the parameters"),
        ({"grad_fn": lambda p: (p, p)}, ValueError, "with the structure of the parameters"),
        ({"grad_fn": lambda p: {"w": p["w"][:1]}}, ValueError, r"shape \(1,\) for a parameter"),
    ],
)
def test_says_what_is_wrong_with_the_function(arguments, error, says):
    p = {"w": jnp.ones(2)}
    with pytest.raises(error, match=says):
        EXTRAGRADIENT.update(p, EXTRAGRADIENT.init(p), p, **arguments)


def test_its_equation_is_complete():
    check_latex(EXTRAGRADIENT)
    assert undefined(EXTRAGRADIENT) == set()
    at = r"\operatorname{gradient}\left(\theta_{t-1} - 0.01\, g_t\right)"
    assert at in str(EXTRAGRADIENT._repr_latex_())


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn", "float16", "bfloat16"])
def test_the_point_uphill_lies_within_the_range_of_the_parameters(dtype):
    """Beyond it the point would be infinite, and its gradient NaN (found by fuzzing)."""
    largest = float(jnp.finfo(dtype).max)
    params, g = jnp.asarray([largest, 1.0], dtype), jnp.ones(2, dtype)
    tx = gradtx.asam(gradtx.adam(0.1))
    updates, _ = tx.update(g, tx.init(params), params, grad_fn=lambda p: p)
    assert np.all(np.isfinite(np.asarray(updates, "f4")))

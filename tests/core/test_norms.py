"""Norms of trees: as exact as float64 at any magnitude, on every kind of device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import roundings

import gradtx
from gradtx._core.numerics import norm_parts

# The largest number, one whose square overflows, common ones, one whose square vanishes, and one whose
# thousandth part a CPU does not take for zero.
MAGNITUDES = {
    "float32": (3.4e38, 1e25, 1.0, 1e-10, 1e-25, 1e-33),
    "float64": (1.7e308, 1e200, 1.0, 1e-200, 1e-303),
    "bfloat16": (3.3e38, 1.0, 1e-30),
    "float16": (65504.0, 1.0, 6e-8),
    "complex64": (3.4e38, 1.0, 1e-30),
}


def numbers(dtype, magnitude):
    """Two arrays with a thousand numbers of this size and smaller ones."""
    rng = np.random.default_rng(0)
    parts = rng.uniform(-1, 1, (2, 1000)) * np.float64(magnitude)
    parts[:, :10] = magnitude  # in the two parts of complex numbers, too
    x = parts[0] + 1j * parts[1] if dtype == "complex64" else parts[0]
    return {"a": jnp.asarray(x[:600], dtype), "b": jnp.asarray(x[600:], dtype).reshape(20, 20)}


def exact(tree, unit):
    """The norm divided by `unit`, in float64."""
    flat = np.concatenate([np.ravel(np.asarray(x).astype(complex)) for x in jax.tree.leaves(tree)])
    return np.sqrt(np.sum((flat.real / unit) ** 2 + (flat.imag / unit) ** 2))


def on(device, monkeypatch):
    """`norm_parts` as this kind of device gets it, computed here by a CPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    return jax.jit(lambda tree: norm_parts.__wrapped__(tree))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("dtype", MAGNITUDES)
def test_the_norm_is_exact_at_any_magnitude(dtype, device, monkeypatch):
    with jax.enable_x64(dtype == "float64"):
        parts = on(device, monkeypatch)
        for magnitude in MAGNITUDES[dtype]:
            tree = numbers(dtype, magnitude)
            unit, ratio = map(np.float64, parts(tree))
            want = exact(tree, magnitude)
            few = roundings(40, "float64" if dtype == "float64" else "float32")
            got = unit / magnitude * ratio if unit < 1 else ratio / (magnitude / unit)
            np.testing.assert_allclose(got, want, rtol=few, err_msg=str(magnitude))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_derivative_of_a_norm_is_finite_at_any_magnitude(device, monkeypatch):
    parts = on(device, monkeypatch)
    for magnitude in MAGNITUDES["float32"]:
        tree = numbers("float32", magnitude)
        derivative = jax.grad(lambda tree: parts(tree)[1])(tree)  # the unit is a constant
        unit, ratio = map(np.float64, parts(tree))
        for key, x in tree.items():
            want = np.asarray(x, np.float64) / unit / ratio / unit
            got = np.asarray(derivative[key], np.float64)
            few = roundings(40, "float32") * np.abs(want).max() + np.finfo(np.float32).tiny
            np.testing.assert_allclose(got, want, rtol=0, atol=few, err_msg=str(magnitude))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("value, norm", [(0.0, 0.0), (np.inf, np.inf), (np.nan, np.nan)])
def test_zero_infinity_and_nan_are_not_hidden(value, norm, device, monkeypatch):
    unit, ratio = on(device, monkeypatch)({"a": jnp.array([0.0, value]), "b": jnp.zeros(3)})
    np.testing.assert_array_equal(unit * ratio, norm)
    assert 0 < unit < np.inf


def test_a_gpu_meets_no_branch_on_its_way_through_a_clipped_step(monkeypatch):
    """At a branch a GPU waits for its host, which then cannot queue the next step."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    params = {"w": jnp.ones((6, 7)), "b": jnp.ones(7)}  # a shape that no other test traces
    for rate in (0.1, gradtx.cosine_decay_schedule(0.1, 10)):
        tx = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(rate))
        program = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
        assert "case" not in program and "stablehlo.if" not in program

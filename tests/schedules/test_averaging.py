"""The weights of averages: schedules that are called with the number of what is averaged already."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from public import PUBLIC
from rounding import roundings

import gradtx
from gradtx import ema_weight, mean_weight, polynomial_weight, power_weight

N = np.unique(np.geomspace(1, 2.0**31 - 1, 200).astype("int64")) - 1
AFTER = np.maximum(N, 1)  # without the first one, where a logarithm is infinite
POWER = -np.expm1(7.94 * np.where(N > 0, np.log1p(-1 / (AFTER + 1)), -np.inf))

# Each weight in float64, and its number of roundings. A power raises the roundings of its exponent.
WEIGHTS = {
    "mean_weight()": (1 / (N + 1), 2),
    "ema_weight(0.9)": (0.1 / -np.expm1((N + 1) * np.log1p(-0.1)), 12),
    "ema_weight(0.9999)": (1e-4 / -np.expm1((N + 1) * np.log1p(-1e-4)), 12),
    "ema_weight(0.9999, form='ramp')": (np.maximum(1e-4, 9 / (10 + N)), 4),
    "ema_weight(0.99, form='constant')": (np.full(len(N), 0.01), 1),
    "polynomial_weight(3.0)": (4 / (N + 4), 4),
    "power_weight(6.94)": (POWER, 16),
    "power_weight(0.0)": (1 / (N + 1), 8),
}


def make(code):
    return eval(code, dict(PUBLIC))


def test_weights_are_exact_from_the_first_average_to_the_last():
    for code, (want, count) in WEIGHTS.items():
        got = jax.jit(make(code))(jnp.asarray(N, "int32"))
        assert got.dtype == "float32"
        got = np.asarray(got, "float64")
        assert_allclose(got, want, rtol=roundings(count, "float32"), err_msg=code)


@pytest.mark.parametrize("code", WEIGHTS)
def test_a_weight_is_a_value(code):
    weight = make(code)
    copies = copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))
    for same in (make(repr(weight)), gradtx.parse(repr(weight)), *copies):
        assert same == weight and hash(same) == hash(weight) and repr(same) == repr(weight)
    assert isinstance(weight, gradtx.Schedule)
    traces = []

    @jax.jit
    def at(weight):
        traces.append(1)
        return weight(3)

    for x in (weight, make(code), jax.tree.map(lambda x: 0.5 * x, weight)):
        assert at(x).dtype == "float32" and not at(x).weak_type
    assert len(traces) == 1
    if not jax.tree.leaves(weight):
        return  # there is nothing to differentiate by
    slopes = jax.jit(jax.jacfwd(lambda w: w(jnp.asarray(N, "int32"))))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slopes(weight)))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda **x: ema_weight(1.0), ValueError, r"\[0, 1\)"),
        (lambda **x: ema_weight(0.9, **x), ValueError, "'corrected', 'ramp' or 'constant'"),
        (lambda **x: power_weight(-1.0), ValueError, r"\[0, inf\)"),
        (lambda **x: polynomial_weight(-1.0), ValueError, r"\[0, inf\)"),
        (lambda **x: ema_weight(mean_weight()), TypeError, "cannot be a schedule"),  # pyright: ignore
    ],
)
def test_refuses_what_is_not_a_weight(make, error, says):
    with pytest.raises(error, match=says):
        make(form="warm")

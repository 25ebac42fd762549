"""Accumulators narrower than float32: they follow what they average, or are refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public import PUBLIC

import gradtx
from gradtx import adam, adamw, amsgrad, ema, nadam, nadamw, scale_by_adam, scale_by_amsgrad

NARROW = "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"
N, LONG = 1024, 3000

# Every part with such a field, some recipes, and the field of the state in which the average lies.
MOMENTA: Any = {
    "scale_by_momentum": lambda b, dtype: gradtx.scale_by_momentum(b, accumulator_dtype=dtype),
    "heavy_ball": lambda b, dtype: gradtx.scale_by_momentum(b, "heavy_ball", True, dtype),
    "scale_by_nadam_momentum": lambda b, dtype: gradtx.scale_by_nadam_momentum(b, 0.004, dtype),
    "ema": lambda b, dtype: ema(b, accumulator_dtype=dtype),
    "trace": lambda b, dtype: gradtx.trace(b, accumulator_dtype=dtype),
    "sgd": lambda b, dtype: gradtx.sgd(0.1, momentum=b, accumulator_dtype=dtype),
    "scale_by_adam": lambda b, dtype: scale_by_adam(b, mu_dtype=dtype),
    "scale_by_amsgrad": lambda b, dtype: scale_by_amsgrad(b, mu_dtype=dtype),
    "adam": lambda b, dtype: adam(0.1, b, mu_dtype=dtype),
    "adamw": lambda b, dtype: adamw(0.1, b, mu_dtype=dtype),
    "amsgrad": lambda b, dtype: amsgrad(0.1, b, mu_dtype=dtype),
    "nadam": lambda b, dtype: nadam(0.1, b, mu_dtype=dtype),
    "nadamw": lambda b, dtype: nadamw(0.1, b, mu_dtype=dtype),
    "muon": lambda b, dtype: gradtx.muon(0.1, beta=b, mu_dtype=dtype),
}
SQUARES: Any = {
    "second_moment": lambda b, dtype: gradtx.second_moment(b, dtype),
    "sum_of_squares": lambda b, dtype: gradtx.sum_of_squares(0.0, dtype),
    "scale_by_adam": lambda b, dtype: scale_by_adam(b2=b, nu_dtype=dtype),
    "scale_by_amsgrad": lambda b, dtype: scale_by_amsgrad(b2=b, nu_dtype=dtype),
    "adam": lambda b, dtype: adam(0.1, b2=b, nu_dtype=dtype),
    "adamw": lambda b, dtype: adamw(0.1, b2=b, nu_dtype=dtype),
    "amsgrad": lambda b, dtype: amsgrad(0.1, b2=b, nu_dtype=dtype),
    "nadam": lambda b, dtype: nadam(0.1, b2=b, nu_dtype=dtype),
    "nadamw": lambda b, dtype: nadamw(0.1, b2=b, nu_dtype=dtype),
}


def test_every_part_with_a_field_for_a_dtype_is_here():
    def narrow(kind, *names):
        return any(f"{x}_dtype" in getattr(kind, "__dataclass_fields__", {}) for x in names)

    kinds = {x.__name__: x for x in PUBLIC.values() if isinstance(x, type)}
    both = {name for name, kind in kinds.items() if narrow(kind, "mu", "accumulator", "nu")}
    assert both >= {*MOMENTA, *SQUARES} - {"heavy_ball"}
    # A recipe hands its dtype on to a part, which is here.
    recipes = {name for name, kind in kinds.items() if issubclass(kind, gradtx.Recipe)}
    assert both - recipes <= {*MOMENTA, *SQUARES}


def narrow_arrays(state, dtype):
    return [x for x in jax.tree.leaves(state) if x.dtype == dtype]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", MOMENTA)
def test_a_momentum_in_any_dtype_takes_steps_and_keeps_its_types(name, dtype):
    tx, params = MOMENTA[name](0.9, dtype), jnp.ones((2, 3))

    def steps(g):
        state = tx.init(params)
        body = lambda state, _: (tx.update(g, state, params)[1], None)
        return jax.lax.scan(body, state, length=3)[0]

    (array,) = narrow_arrays(jax.eval_shape(steps, params), dtype)
    assert array.shape == params.shape


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", SQUARES)
def test_squares_are_kept_in_bfloat16_and_in_no_dtype_in_which_small_squares_vanish(name, dtype):
    make = SQUARES[name]
    if dtype != "bfloat16":
        match = rf"accumulator_dtype='{dtype}'.*small gradient is zero.*'bfloat16'.*stored"
        for given in (dtype, jnp.dtype(dtype)):
            with pytest.raises(ValueError, match=match):
                make(0.999, given)
        return
    state = jax.eval_shape(make(0.999, dtype).init, jnp.ones(3))
    assert len(narrow_arrays(state, dtype)) == 1


def run(tx, *runs):
    """The state after each run of constant gradients. A run is a pair of a size and a length."""
    states = []
    state = tx.init(jnp.zeros(N))
    for size, length in runs:
        g = jnp.full(N, size)
        body = lambda state, _, g=g: (tx.update(g, state)[1], None)
        state, _ = jax.jit(lambda state, n=length, f=body: jax.lax.scan(f, state, length=n))(state)
        states.append(state)
    return states


def check_mean(x, want, deviation):
    """Whether the mean of N entries is right, for independent entries of this relative deviation."""
    x = np.asarray(x.astype(jnp.float32), "f8")
    assert abs(x.mean() / want - 1) <= 5 * deviation / N**0.5 + 1e-6
    assert x.std() <= 1.2 * deviation * want


def deviation(decay, dtype):
    """The relative deviation of an average that is rounded at random in every step.

    A rounding has a deviation of at most half the distance of the neighbors, which is at most 2**-7 of a
    bfloat16 number, and an average keeps 1 / (1 - b**2) of the variances of its roundings.
    """
    return float(jnp.finfo(dtype).eps) / 2 / (1 - decay**2) ** 0.5


@pytest.mark.parametrize(("name", "decay"), [("second_moment", 0.999), ("adam", 0.99)])
def test_a_second_moment_in_bfloat16_rises_and_falls_with_the_squares(name, decay):
    """Rounded to nearest, it would stay at 0.25 under gradients of 1, and after that for ever."""
    rise, fall = run(SQUARES[name](decay, "bfloat16"), (1.0, LONG), (0.125, LONG))
    (high,), (low,) = (narrow_arrays(state, "bfloat16") for state in (rise, fall))
    kept = decay**LONG
    check_mean(high, 1 - kept, deviation(decay, "bfloat16"))
    # The deviation of the high average is forgotten as its mean is.
    spread = deviation(decay, "bfloat16") + kept**0.5
    check_mean(low, (1 - kept) * kept + (1 - kept) / 64, spread)


@pytest.mark.parametrize(
    ("decay", "dtype"),
    [
        (0.9, "bfloat16"),
        (0.99, "bfloat16"),
        (0.999, "bfloat16"),
        (0.999, "float16"),
        (0.9, "float8_e4m3fn"),
    ],
)
def test_a_momentum_rises_and_falls_with_the_gradients_in_every_dtype(decay, dtype):
    """Rounded to nearest, it would stop at 0.98, 0.8 and 0.25 in bfloat16."""
    tx = gradtx.scale_by_momentum(decay, accumulator_dtype=dtype)
    rise, fall = run(tx, (1.0, 2 * LONG), (0.125, 2 * LONG))
    kept = decay ** (2 * LONG)
    check_mean(rise.mu, 1 - kept, deviation(decay, dtype))
    check_mean(fall.mu, 0.125 * (1 - kept) + kept, deviation(decay, dtype) + 4 * kept**0.5)


def test_a_sum_of_squares_in_bfloat16_keeps_growing():
    """Rounded to nearest, it would stop at 256 under gradients of 1."""
    (state,) = run(gradtx.sum_of_squares(0.0, "bfloat16"), (1.0, LONG))
    # A step of 1 is rounded up with the probability 1 / d, for a distance d of the neighbors, so the
    # variance grows by d - 1 per step. The distance is at most 2**-7 of the sum.
    check_mean(state.sum_of_squares, LONG, (2.0**-7 / 2) ** 0.5)


def test_an_update_is_computed_before_the_average_is_rounded():
    tx, wide = (
        gradtx.scale_by_momentum(0.9, accumulator_dtype="float16"),
        gradtx.scale_by_momentum(),
    )
    g = jnp.full(8, 1 / 3)
    got, want = tx.update(g, tx.init(g))[0], wide.update(g, wide.init(g))[0]
    np.testing.assert_array_equal(got, want)


def test_a_counter_is_shared_with_the_bias_correction():
    fields = adam(0.1, mu_dtype="bfloat16", nu_dtype="bfloat16").init(jnp.ones(2))[0]
    assert fields._fields == ("count", "mu", "nu")
    # A complex average is complex64 at least, and its squares are real.
    state = adam(0.1, mu_dtype="bfloat16", nu_dtype="bfloat16").init(jnp.ones(2, jnp.complex64))[0]
    assert (state.mu.dtype, state.nu.dtype) == ("complex64", "bfloat16")


def test_derivatives_pass_through_the_rounding():
    def last(decay, dtype):
        tx = gradtx.second_moment(decay, dtype)
        state = tx.init(jnp.ones(64))
        total = jnp.zeros(())
        for size in (1.0, 2.0, 3.0):
            update, state = tx.update(jnp.full(64, size), state)
            total = update.mean()
        return total

    narrow, wide = (jax.jit(jax.grad(last), static_argnums=1)(0.9, x) for x in ("bfloat16", None))
    # The derivative goes through two averages in bfloat16, which are off by 1/128 each.
    np.testing.assert_allclose(narrow, wide, rtol=3 * 2**-7)

"""What the numbers of every optimizer do: over many steps, at the ends of the number line, at zero."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import steps

from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    chain,
    muon,
    nadam,
    nadamw,
    rmsprop,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
)  # fmt: skip  # fmt: skip

SYSTEMS = {
    "sgd": sgd(0.1),
    "momentum": chain(scale_by_momentum(0.9), scale_by_learning_rate(0.1)),
    "heavy_ball": sgd(0.1, 0.9),
    "heavy_ball_torch": sgd(0.1, 0.9, dampening=0.5),
    "heavy_ball_keras": sgd(0.1, 0.9, convention="keras"),
    "nesterov": sgd(0.1, 0.9, nesterov=True),
    "adagrad": adagrad(0.1),
    "adagrad_torch": adagrad(0.1, convention="torch"),
    "adagrad_full": chain(scale_by_full_matrix_adagrad(), scale_by_learning_rate(0.1)),
    "rmsprop": rmsprop(0.1),
    "rmsprop_torch": rmsprop(0.1, momentum=0.9, convention="torch"),
    "rmsprop_centered": rmsprop(0.1, centered=True),
    "rmsprop_debiased": rmsprop(0.1, bias_correction=True),
    "adadelta": adadelta(),
    "adam": adam(0.1),
    "adam_keras": adam(0.1, convention="keras"),
    "adam_root": adam(0.1, eps_root=1e-8),
    "adamw": adamw(0.1),
    "adamw_paper": adamw(0.1, schedule=lambda t: 1.0 / (1.0 + t), convention="paper"),
    "amsgrad": amsgrad(0.1),
    "amsgrad_torch": amsgrad(0.1, convention="torch"),
    "nadam": nadam(0.1),
    "nadam_torch": nadam(0.1, convention="torch"),
    "nadamw": nadamw(0.1),
    "muon": muon(0.1),
}


LINEAR = {name for name in SYSTEMS if name.startswith(("sgd", "momentum", "heavy", "nesterov"))}


FLOATS = ("float32", "bfloat16", "float16")


each = pytest.mark.parametrize("name", SYSTEMS)


def zeros(dtype="float32"):
    return {"w": jnp.zeros((4, 3), dtype), "b": jnp.zeros(3, dtype)}


def filled(value, dtype="float32"):
    return jax.tree.map(lambda x: jnp.full_like(x, value), zeros(dtype))


def finite(tree):
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(tree))


@functools.partial(jax.jit, static_argnums=0)
def one(tx, g, state, params):
    return tx.update(g, state, params)


# Relative to the largest step. AdaDelta's steps feed on themselves; full AdaGrad divides by the smallest
# eigenvalue of its matrix; Muon's iteration is no contraction. Those are held less tightly.
LESS = dict.fromkeys(("adadelta", "adagrad_full", "muon"), 2e-5)


@each
def test_B2_float32_stays_with_float64(name):
    long = {"adagrad_full": 400, "muon": 100}.get(name, 20_000)
    shape = (long, 4, 3) if name == "muon" else (long, 4)
    g = np.random.default_rng(0).normal(size=shape).astype("f4")
    tx = SYSTEMS[name]
    wide, narrow = steps(tx, g), steps(tx, g, dtype="float32")
    assert np.max(np.abs(narrow - wide)) < LESS.get(name, 5e-6) * np.max(np.abs(wide))


@each
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_B3_low_precision_parameters_have_float32_state(name, dtype):
    state = SYSTEMS[name].init(zeros(dtype))
    assert {x.dtype.name for x in jax.tree.leaves(state)} <= {"float32", "int32"}


@each
def test_B4_state_is_a_fixed_point_of_types(name):
    tx = SYSTEMS[name]

    def types(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    for p in FLOATS:
        for g in FLOATS:
            before = jax.eval_shape(tx.init, zeros(p))
            _, after = jax.eval_shape(tx.update, zeros(g), before, zeros(p))
            assert types(before) == types(after)


@each
@pytest.mark.parametrize("dtype", [*FLOATS, "float64"])
def test_B5_zero_gradients_give_exactly_zero(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        tx, params = SYSTEMS[name], zeros(dtype)
        state = tx.init(params)
        for _ in range(3):
            updates, state = one(tx, params, state, params)
        assert not any(x.any() for x in jax.tree.leaves(updates)) and finite(state)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_B6_a_gradient_that_is_not_finite_shows(name, bad):
    tx, params = SYSTEMS[name], zeros()
    updates, _ = one(tx, filled(bad), tx.init(params), params)
    assert not any(bool(jnp.any(jnp.isfinite(x))) for x in jax.tree.leaves(updates))


@each
@pytest.mark.parametrize("size", [1e19, 1e25, 3e38])
def test_B6_a_gradient_whose_square_overflows_freezes_nothing(name, size):
    if name in LINEAR and size > 1e30:
        return  # their own sums overflow, as sums do
    tx, params = SYSTEMS[name], zeros()
    updates, state = one(tx, filled(size), tx.init(params), params)
    assert finite((updates, state))
    assert name in LINEAR or max(float(jnp.max(jnp.abs(x))) for x in jax.tree.leaves(updates)) < 2
    for value in (1.0, -1.0, 1e10):
        updates, state = one(tx, filled(value), state, params)
        assert finite((updates, state)) and all(x.all() for x in jax.tree.leaves(updates))


@each
def test_B8_what_is_no_gradient_of_the_parameter_is_refused_by_path(name):
    tx, params = SYSTEMS[name], zeros()
    state = tx.init(params)
    for leaf, says in (
        (jnp.ones(3, "int32"), "int32"),
        (jnp.ones((1,)), "shape"),
        (jnp.ones(3, "complex64"), "complex64"),
    ):
        with pytest.raises(ValueError, match=f"`b`.*{says}"):
            tx.update({**filled(1.0), "b": leaf}, state, params)
    float0 = {**filled(1.0), "b": np.zeros(3, jax.dtypes.float0)}
    updates, _ = tx.update(float0, state, params)
    assert not updates["b"].any()


@pytest.mark.parametrize(
    "recipe", [sgd, adagrad, rmsprop, adadelta, adam, adamw, amsgrad, nadam, nadamw]
)
def test_B9_no_default_ascends(recipe):
    for convention in ("optax", *recipe.conventions):
        rate = (
            {}
            if "learning_rate" in recipe.conventions.get(convention, {})
            else {"learning_rate": 0.1}
        )
        defaults = recipe(**({} if recipe is adadelta else rate), convention=convention)
        u = steps(defaults, np.array([[2.0, -3.0]]))
        assert np.all(u * [2.0, -3.0] < 0)


@each
def test_B10_the_derivative_at_a_zero_gradient_is_finite(name):
    with jax.enable_x64(True):
        tx, params = SYSTEMS[name], zeros("float64")

        @jax.jit
        def slopes(params):
            state, out = tx.init(params), []
            for _ in range(2):

                def total(g, state=state):
                    updates, new = tx.update(g, state, params)
                    return sum(jnp.sum(x) for x in jax.tree.leaves(updates)), new

                slope, state = jax.grad(total, has_aux=True)(params)
                out.append(slope)
            return out

        slopes = [np.asarray(x) for x in jax.tree.leaves(slopes(params))]
    assert all(np.all(np.isfinite(x)) for x in slopes)
    # Where there is no matrix to divide by, it is that of a step: not zero either.
    assert name in ("muon", "adagrad_full") or all(np.all(x != 0) for x in slopes)


@each
def test_B11_counts_stay_at_the_largest(name):
    tx, params, last = SYSTEMS[name], zeros(), np.iinfo("i4").max

    def late(x):
        return jnp.full_like(x, last) if x.dtype == jnp.int32 else x

    state = jax.tree.map(late, tx.init(params))
    for _ in range(2):
        updates, state = one(tx, filled(1.0), state, params)
        assert finite((updates, state))
    counts = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
    assert all(int(x) == last for x in counts)

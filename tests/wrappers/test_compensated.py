"""`compensated`: parameters and their remainders are together the sum of all updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_master_weights import all_numbers
from zoo import same

import gradtx
from gradtx import compensated
from gradtx._core.rounding import spacing

FORMS = "bfloat16", "int8"
N = 512


def train(form, dtype, start, gradient, steps, rate=1.0):
    """Parameters, state and restored parameters after steps of one gradient."""
    tx = compensated(gradtx.sgd(rate), form)
    params = jnp.full(N, start).astype(dtype)

    def body(carry, _):
        p, s = carry
        u, s = tx.update(jnp.full(N, gradient), s, p)
        return (gradtx.apply_updates(p, u), s), None

    run = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), length=steps)[0])
    params, state = run(params)
    return params, state, np.asarray(tx.restored(params, state), "f8")


@pytest.mark.parametrize(
    ("dtype", "form"),
    [*(("bfloat16", form) for form in FORMS), ("float16", "bfloat16"), ("float8_e4m3fn", "int8")],
)
def test_a_thousand_small_steps_take_a_parameter_from_one_to_zero(dtype, form):
    params, _, restored = train(form, dtype, 1.0, 1e-3, 1000)
    # A step is rounded at random to one of two numbers, whose distance is at most 2**-8 of the distance
    # of two parameters below 1, with a deviation of half that distance.
    spread = 2.0 ** -(int(jnp.finfo(dtype).nmant) + 9) / 2 * 1000**0.5
    assert np.all(np.abs(restored) < 6 * spread + 1e-6)
    assert abs(restored.mean()) < 5 * spread / N**0.5 + 1e-6
    error = np.abs(np.asarray(params, "f4") - restored).max()
    assert error <= float(jnp.finfo(dtype).eps) / 2 * (np.abs(restored).max() + 0.1)
    if dtype == "bfloat16":
        assert np.all(np.abs(np.asarray(params, "f4")) < 0.02)


@pytest.mark.parametrize("form", FORMS)
def test_an_update_below_the_last_digit_of_the_remainder_counts_on_average(form):
    """Rounded to nearest, a remainder in bfloat16 would keep at most 2**9 of these updates."""
    update, steps = 2.0**-22, 4096
    _, _, restored = train(form, "bfloat16", 1.5, update, steps)
    moved = 1.5 - restored
    # Each step is one of two numbers whose distance d is at most 2**-15, and its variance at most d u.
    spread = (2.0**-15 * update * steps) ** 0.5
    assert abs(moved.mean() - update * steps) < 5 * spread / N**0.5
    assert moved.std() < 1.2 * spread


@functools.partial(jax.jit, static_argnums=3)
def step(params, parts, delta, form):
    """The update and the remainder of a step, and what is restored before and after it.

    `parts` are the old remainders, in units of 1/256 of the distance of two parameters.
    """
    tx = compensated(gradtx.scale(1.0), form)
    state, dtype = tx.init(params), params.dtype
    ((name, r),) = state.remainder.items()
    unit = spacing(params, dtype) / 256 if form == "bfloat16" else 1.0
    state = state._replace(remainder={name: (parts * unit).astype(r.dtype)})
    updates, new = tx.update(delta, state, params)
    after = gradtx.apply_updates(params, updates)
    restored = tx.restored(params, state), tx.restored(after, new)
    return updates, new.remainder[name], after, *restored


@pytest.mark.parametrize(
    ("dtype", "form"), [("bfloat16", "int8"), ("float8_e5m2", "int8"), ("bfloat16", "bfloat16")]
)
def test_the_restored_parameter_is_the_sum_for_all_numbers_and_steps_of_any_size(dtype, form):
    params = all_numbers(dtype)
    wide = np.asarray(params, "f8")
    # The remainder of a smaller bfloat16 number is not a normal float32.
    params = params[(wide == 0) | (np.abs(wide) >= 2.0**-100)]
    wide, info = np.asarray(params, "f8"), jnp.finfo(dtype)
    rng = np.random.default_rng(0)
    parts = jnp.asarray(rng.integers(-127, 128, params.shape), jnp.float32)
    for size in (2.0**-12, 2.0**-7, 0.5, 8.0):
        delta = wide * rng.normal(size=params.shape) * size
        delta = np.where(rng.random(params.shape) < 0.1, 0.0, np.clip(delta, -3e38, 3e38))
        delta = jnp.asarray(delta, jnp.float32)
        updates, remainder, after, before, restored = step(params, parts, delta, form)
        assert updates.dtype == jnp.float32 and np.all(np.isfinite(np.asarray(remainder, "f4")))
        before, got = np.asarray(before, "f8"), np.asarray(restored, "f8")
        want = before + np.asarray(delta, "f8")
        ok = np.abs(want) < float(info.max)
        # A unit of the remainder, and two roundings of float32 of the larger one of the two terms.
        error = np.maximum(np.abs(want) * float(info.eps), float(info.smallest_subnormal)) / 128
        error += 2.0**-22 * np.maximum(np.abs(before), np.abs(np.asarray(delta))) + 2.0**-120
        assert np.all((np.abs(got - want) <= error)[ok])
        # The parameter is the restored number, rounded to nearest; the remainder is at most half way.
        nearest = np.asarray(restored.astype(dtype).astype(jnp.float32))
        differs = nearest[ok] != np.asarray(after, "f4")[ok]
        assert not np.any(differs) if form == "int8" else np.mean(differs) < 0.01


@pytest.mark.parametrize("form", FORMS)
def test_a_zero_update_leaves_parameter_and_remainder_untouched(form):
    params, state, restored = train(form, "bfloat16", 1.0, 1.3e-3, 7)
    tx = compensated(gradtx.sgd(1.0), form)
    u, new = tx.update(jnp.zeros(N), state, params)
    after = gradtx.apply_updates(params, u)
    same(after, params)
    same(new.remainder, state.remainder)
    same(np.asarray(tx.restored(after, new), "f8"), restored)


def test_the_inner_optimizer_sees_the_restored_parameters():
    """A decoupled decay by 2**-12 per step multiplies them by a power."""
    decay = gradtx.chain(gradtx.decoupled_weight_decay(2.0**-12), gradtx.scale(-1.0))
    tx = compensated(decay, "int8")
    params = jnp.ones(N, jnp.bfloat16)

    def body(carry, _):
        p, s = carry
        u, s = tx.update(jnp.zeros(N), s, p)
        return (gradtx.apply_updates(p, u), s), None

    (params, state), _ = jax.lax.scan(body, (params, tx.init(params)), length=500)
    want = (1 - 2.0**-12) ** 500
    restored = np.asarray(tx.restored(params, state))
    assert abs(restored.mean() - want) < 5 * 2.0**-16 * (500 / N) ** 0.5 + 2.0**-20


def test_optax_applies_the_updates_too():
    tx = compensated(gradtx.sgd(1e-3), "int8")
    params = {"w": jnp.linspace(-2, 2, 64).astype(jnp.bfloat16)}
    u, _ = tx.update(params, tx.init(params), params)
    with jax.numpy_dtype_promotion("standard"):
        other = optax.apply_updates(params, u)
    same(gradtx.apply_updates(params, u), other)


def test_only_narrow_parameters_have_a_remainder_and_others_train_as_without_it():
    params = {
        "low": jnp.ones(3, jnp.bfloat16),
        "half": jnp.ones(2, jnp.float16),
        "high": jnp.ones(3),
        "z": jnp.ones(2, jnp.complex64),
        "n": jnp.arange(2),
        "none": None,
    }
    grads = {**params, "n": None}
    tx, inner = compensated(gradtx.scale_by_momentum(), "int8"), gradtx.scale_by_momentum()
    state = tx.init(params)
    assert [*state.remainder] == ["bfloat16", "float16"]
    shapes = [(x.shape, x.dtype.name) for x in jax.tree.leaves(state.remainder)]
    assert shapes == [((3,), "int8"), ((2,), "int8")]
    u, new = tx.update(grads, state, params)
    v, _ = inner.update(grads, inner.init(params), params)
    for name in ("high", "z", "n"):
        same(u[name], v[name])
    assert u["none"] is None and jax.tree.structure(new) == jax.tree.structure(state)
    same(tx.restored(params, state)["low"], jnp.ones(3))
    assert tx.restored(params, state)["n"] is params["n"]


def test_a_missing_gradient_leaves_parameter_and_remainder_untouched():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
    tx = compensated(gradtx.sgd(1e-3))
    _, state = tx.update(params, tx.init(params), params)
    u, new = tx.update({"a": None, "b": params["b"]}, state, params)
    same(new.remainder["bfloat16"]["a"], state.remainder["bfloat16"]["a"])
    same(gradtx.apply_updates(params, u)["a"], params["a"])


@pytest.mark.parametrize("form", FORMS)
def test_an_infinite_gradient_shows_in_the_parameters(form):
    params = jnp.ones(3, jnp.bfloat16)
    tx = compensated(gradtx.sgd(1.0), form)
    u, state = tx.update(jnp.array([jnp.inf, jnp.nan, 1.0]), tx.init(params), params)
    new = np.asarray(gradtx.apply_updates(params, u), "f4")
    assert new[0] == -np.inf and np.isnan(new[1]) and new[2] == 0
    assert np.all(np.isfinite(np.asarray(state.remainder["bfloat16"], "f4")))


def test_an_average_inside_is_the_average_of_the_restored_parameters():
    tx = compensated(gradtx.averaged(gradtx.sgd(1e-3), gradtx.mean_weight()))
    params = jnp.ones((), jnp.bfloat16)
    state = tx.init(params)
    for _ in range(3):
        u, state = tx.update(jnp.ones((), jnp.bfloat16), state, params)
        params = gradtx.apply_updates(params, u)
    shown = gradtx.eval_params(tx, params, state, dtype=jnp.float32)
    # Three roundings of the remainder, which is at most 2**-8, by at most 2**-7 of it.
    np.testing.assert_allclose(shown, 1 - 2e-3, rtol=3 * 2.0**-15)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"compensated\(remainder='int4'\)"):
        compensated(gradtx.sgd(0.1), "int4")  # pyright: ignore[reportArgumentType]
    tx, params = compensated(gradtx.sgd(0.1)), jnp.ones(2, jnp.bfloat16)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))


def test_the_middle_of_two_parameters_is_right_on_average():
    """The parameter is rounded to one side, and an int8 does not hold 128 units to the other."""
    unit = 2.0**-15  # 1/256 of the distance from 1 to the next number
    _, _, restored = train("int8", "bfloat16", 1.0, -(2.0**-8), 1)
    assert set((restored - 1 - 2.0**-8) / unit) == {-1.0, 1.0}
    assert abs((restored - 1 - 2.0**-8).mean()) < 5 * unit / N**0.5

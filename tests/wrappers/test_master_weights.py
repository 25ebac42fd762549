"""`master_weights`: every parameter is its float32 copy, rounded once, and the copy is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st
from zoo import same

import gradtx

DTYPES = "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"
N = 64  # entries per example


def all_numbers(dtype):
    """Every finite number of a dtype, of both signs, with the subnormal numbers and both zeros."""
    bits = np.dtype(jnp.dtype(dtype)).itemsize * 8
    x = np.arange(2**bits, dtype=f"u{bits // 8}").view(jnp.dtype(dtype))
    return jnp.asarray(x[np.isfinite(x.astype("f4"))])


@jax.jit
def step(params, delta, master):
    """One step in which the copy `master` of `params` is to move by `delta`."""
    tx = gradtx.master_weights(gradtx.scale(1.0))
    state = tx.init(params)._replace(master=master)
    updates, state = tx.update(delta, state, params)
    return updates, state.master


apply = jax.jit(gradtx.apply_updates)


def bits(x):
    """The bits of an array, except that all NaNs count as one."""
    x = np.asarray(x)
    return np.where(np.isnan(x.astype("f4")), 0, x.view(f"u{x.itemsize}").astype(np.int64) + 1)


def rounded(copy, dtype):
    """The copy in the dtype of the parameters; 8 bits stop at their largest number."""
    if jnp.dtype(dtype).itemsize == 1:
        largest = float(jnp.finfo(dtype).max)
        copy = jnp.where(jnp.isfinite(copy), jnp.clip(copy, -largest, largest), copy)
    return copy.astype(dtype)


def check_rounds(params, master, delta):
    """Check the law in un-jitted code, across two compiled functions, and inside one."""
    updates, new = step(params, delta, master)
    assert updates.dtype == jnp.float32 and new.dtype == jnp.float32
    want = bits(rounded(new, params.dtype))
    np.testing.assert_array_equal(bits(apply(params, updates)), want)
    np.testing.assert_array_equal(bits(gradtx.apply_updates(params, updates)), want)
    one_p, one_m = jax.jit(whole)(params, delta, master)
    np.testing.assert_array_equal(bits(one_p), bits(rounded(one_m, params.dtype)))
    return new


def whole(params, delta, master):
    updates, new = step(params, delta, master)
    return gradtx.apply_updates(params, updates), new


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_parameter_is_its_copy_rounded_for_every_number_of_the_dtype(dtype):
    params = all_numbers(dtype)
    wide = params.astype(jnp.float32)
    rng = np.random.default_rng(0)
    # Steps by less than one rounding, by a factor, to another sign, and to a far magnitude.
    for delta in (
        wide * jnp.float32(1e-3),
        wide * jnp.asarray(rng.uniform(-3, 3, wide.shape), "f4"),
        -wide,
        jnp.asarray(rng.permutation(np.asarray(wide))),
    ):
        check_rounds(params, wide, delta)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_the_parameter_is_its_copy_rounded_for_any_copy_and_any_step(data):
    dtype = data.draw(st.sampled_from(DTYPES[:2]))
    exponents = st.lists(st.integers(-160, 127), min_size=N, max_size=N)
    seed = data.draw(st.integers(0, 2**31))
    mantissas = np.random.default_rng(seed).uniform(-2, 2, (2, N))
    powers = np.array([data.draw(exponents), data.draw(exponents)])
    with np.errstate(over="ignore", under="ignore"):
        master, delta = jnp.asarray(np.ldexp(mantissas, powers).astype("f4"))
        params = jnp.asarray(np.asarray(master).astype(jnp.dtype(dtype)))
    check_rounds(params, master, delta)


def test_the_copy_follows_a_float32_training_to_its_last_bits():
    # Each update is at most a tenth of its entry, so that every difference is exact.
    tx = gradtx.adamw(1e-3, weight_decay=0.1)
    grads = jax.random.normal(jax.random.key(0), (50, 40)).astype(jnp.bfloat16)
    low = (1 + jax.random.uniform(jax.random.key(1), (40,))).astype(jnp.bfloat16)
    high, wrapped = low.astype(jnp.float32), gradtx.master_weights(tx)
    state, low_state = tx.init(high), wrapped.init(low)
    for g in grads:
        u, state = tx.update(g.astype(jnp.float32), state, high)
        high = gradtx.apply_updates(high, u)
        u, low_state = wrapped.update(g, low_state, low)
        low = gradtx.apply_updates(low, u)
    same(low_state.master, high)
    same(low_state.inner, state)
    same(low, high.astype(jnp.bfloat16))
    # Without copies, the same updates are rounded away.
    stuck = jnp.ones(40, jnp.bfloat16)
    u, _ = tx.update(grads[0], tx.init(stuck), stuck)
    same(gradtx.apply_updates(stuck, u), stuck)


def test_a_thousand_small_steps_arrive():
    tx = gradtx.master_weights(gradtx.sgd(1e-3))
    params, one = jnp.ones((), jnp.bfloat16), jnp.ones((), jnp.bfloat16)

    def body(carry, _):
        p, s = carry
        u, s = tx.update(one, s, p)
        return (gradtx.apply_updates(p, u), s), None

    (params, state), _ = jax.lax.scan(body, (params, tx.init(params)), length=1000)
    # A thousand roundings of float32 at 1, of at most 2**-25 each.
    assert abs(float(state.master)) <= 1000 * 2**-25 + 1e-6
    same(params, state.master.astype(jnp.bfloat16))


def test_only_narrow_parameters_have_a_copy_and_others_train_as_without_it():
    params = {
        "low": jnp.ones(3, jnp.bfloat16),
        "high": jnp.ones(3),
        "z": jnp.ones(2, jnp.complex64),
        "n": jnp.arange(2),
        "none": None,
    }
    grads = {**params, "n": None}
    tx, inner = gradtx.master_weights(gradtx.adam(0.1)), gradtx.adam(0.1)
    state = tx.init(params)
    assert state.master["low"].dtype == jnp.float32
    for name in ("high", "z"):
        assert state.master[name] == optax.MaskedNode()
    assert len(jax.tree.leaves(state.master)) == 1
    u, new = tx.update(grads, state, params)
    v, _ = inner.update(grads, inner.init(params), params)
    for name in ("high", "z", "n"):
        same(u[name], v[name])
    assert u["none"] is None
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_a_missing_gradient_leaves_parameter_and_copy_untouched():
    params = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2, jnp.bfloat16)}
    tx = gradtx.master_weights(gradtx.adamw(0.1))
    state = tx.init(params)
    u, new = tx.update({"a": None, "b": params["b"]}, state, params)
    same(new.master["a"], state.master["a"])
    same(gradtx.apply_updates(params, u)["a"], params["a"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: gradtx.chain(gradtx.clip(1.0), tx),
        lambda tx: gradtx.partition({"all": tx}, lambda path, leaf: "all"),
        lambda tx: gradtx.masked(tx, True),
        lambda tx: gradtx.chain(tx, gradtx.tap("step", gradtx.norm())),
    ],
    ids=["chain", "partition", "masked", "tap"],
)
def test_updates_stay_float32_inside_compositions(wrap):
    params = {"w": jnp.ones(2, jnp.bfloat16)}
    tx = wrap(gradtx.master_weights(gradtx.sgd(1e-4)))
    u, _ = tx.update(params, tx.init(params), params)
    assert u["w"].dtype == jnp.float32
    plain = wrap(gradtx.sgd(1e-4))
    u, _ = plain.update(params, plain.init(params), params)
    assert u["w"].dtype == jnp.bfloat16


def test_an_average_inside_is_the_average_of_the_copies():
    tx = gradtx.master_weights(gradtx.averaged(gradtx.sgd(1e-3), gradtx.mean_weight()))
    params = jnp.ones((), jnp.bfloat16)
    state = tx.init(params)
    for _ in range(3):
        u, state = tx.update(jnp.ones((), jnp.bfloat16), state, params)
        params = gradtx.apply_updates(params, u)
    shown = gradtx.eval_params(tx, params, state, dtype=jnp.float32)
    np.testing.assert_allclose(shown, 1 - 2e-3, rtol=2**-22)  # 4 roundings of float32
    same(gradtx.get(state, "master"), state.master)


def test_parameters_must_be_passed():
    tx = gradtx.master_weights(gradtx.sgd(0.1))
    params = jnp.ones(2, jnp.bfloat16)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(params, tx.init(params))

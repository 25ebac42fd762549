"""The numbers: how exact a step is, over one step, over many, and at the ends of the number line.

An oracle uses the decay that the program received: the Python number itself where it was one at
trace time, its float32 value where it came as an array.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import fading

import gradtx
from gradtx import adam, adamw, bias_correction, root, scale_by_momentum, second_moment

B2S = [0.9, 0.99, 0.999, 0.9999, 0.99999]


def run(tx, gradients):
    """The updates for a sequence of gradients, in one compiled loop."""
    return np.asarray(jax.jit(lambda gradients: loop(tx, gradients))(gradients))


def loop(tx, gradients):
    def body(state, g):
        updates, state = tx.update(g, state)
        return state, updates

    return jax.lax.scan(body, tx.init(gradients[0]), gradients)[1]


def average(xs, decay, gain=True):
    """The bias-corrected average of `xs` in float64."""
    mean, out, kept = np.zeros(xs.shape[1:]), np.empty(xs.shape), 1.0
    for i, x in enumerate(xs.astype("f8")):
        b = decay(i) if callable(decay) else decay
        mean = b * mean + (1 - b) * x
        kept *= b
        out[i] = mean / (1 - kept)
    return out


def worst(got, want):
    return np.max(np.abs(got - want) / np.abs(want))


# --- One step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("b2", B2S)
def test_first_adam_step_is_exact_for_every_b2(b2):
    g = jnp.asarray([1e-8, 1e-4, 0.1, 1.0, 3.0, 1e4, 1e18, -1e-6, -1.0], "float32")
    exact = np.asarray(g, "f8")
    exact = -0.1 * exact / (np.abs(exact) + 1e-8)
    for tx in (adam(0.1, b2=b2), adam(jnp.float32(0.1), b2=jnp.float32(b2))):
        for update in (tx.update, jax.jit(tx.update)):
            assert worst(np.asarray(update(g, tx.init(g))[0], "f8"), exact) < 3e-7


def test_first_adam_step_is_a_sign_from_the_smallest_to_the_largest_gradient():
    sizes = [1e-17, 1e-10, 1.0, 1e10, 1e18, 1e25, 1e30, float(jnp.finfo("float32").max)]
    g = jnp.asarray([*sizes, *(-x for x in sizes)], "float32")
    tx = adam(1.0, eps=0.0)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], -np.sign(g), rtol=1e-6)
    tx = adam(1.0)  # where the square vanishes, epsilon is all that divides
    tiny = jnp.asarray([1e-30, 1e-25, 0.0], "float32")
    np.testing.assert_allclose(tx.update(tiny, tx.init(tiny))[0], -tiny / 1e-8, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_adam_in_low_precision_is_that_of_float32_rounded_once(dtype):
    gs = np.asarray(np.random.default_rng(0).normal(size=(200, 4)), dtype)
    gs[100:] *= np.asarray(0.0078125, dtype)  # a frozen second moment would show here
    got, want = run(adam(0.1), gs), run(adam(0.1), gs.astype("f4"))
    assert got.dtype == gs.dtype
    np.testing.assert_array_equal(got, want.astype(gs.dtype))


# --- Many steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("b2", "bound"), [(0.999, 2e-6), (0.9999, 5e-6)])
def test_noise_stays_with_float64_over_a_hundred_thousand_steps(b2, bound):
    gs = np.random.default_rng(0).normal(size=(100_000, 8)).astype("f4")
    m, v = average(gs, 0.9), average(gs.astype("f8") ** 2, b2)
    assert worst(run(root(bias_correction(second_moment(b2))), gs), np.sqrt(v)) < bound
    # m passes through zero, so that an error counts against the learning rate.
    assert np.max(np.abs(run(adam(1.0, b2=b2), gs) + m / (np.sqrt(v) + 1e-8))) < bound


def test_traced_decay_is_consistent():
    """Both places that a decay acts in see the same number, so that a wrong one cannot bias a step."""
    gs = np.ones((50, 2), "f4")
    for b2 in (0.99, 0.9999):
        tx = adam(1.0, b2=jnp.float32(b2))
        np.testing.assert_allclose(run(tx, gs), -1, rtol=1e-6)
        np.testing.assert_allclose(jax.jit(loop)(tx, gs), -1, rtol=1e-6)
    noise = np.random.default_rng(0).normal(size=(5000, 4)).astype("f4")
    want = average(noise.astype("f8") ** 2, float(np.float32(0.999)))
    got = run(bias_correction(second_moment(jnp.float32(0.999))), noise)
    assert worst(got, want) < 3e-6


# --- Bias correction ------------------------------------------------------------------------------


def with_count(tx, count, g):
    return gradtx.set(tx.init(g), count=count)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("b", B2S)
def test_gain_is_exact_from_the_first_step_to_the_last_countable_one(b, x64):
    with jax.enable_x64(x64):
        g = jnp.ones((), "float32")
        for decay in (b, np.float32(b)):
            tx = bias_correction(second_moment(jnp.asarray(decay) if decay is not b else b))
            update = jax.jit(tx.update)
            for count in (0, 1, 2, 9, 99, 999, 10**4, 10**5, 10**6, 2**24, 2**31 - 2, 2**31 - 1):
                nu = 0.25
                state = gradtx.set(with_count(tx, count, g), nu=nu)
                got, new = update(g, state)
                steps = min(count + 1, 2**31 - 1)
                exact = float(decay)
                raw = nu + (1 - exact) * (1 - nu)
                gain = -np.expm1(steps * np.log1p(-(1 - exact)))
                np.testing.assert_allclose(float(got), raw / gain, rtol=5e-7)
                assert int(new.count) == steps


def test_counts_saturate():
    g = jnp.ones(3)
    for row in (
        "adam(0.1)",
        "scale(fading)",
        "adam(fading)",
        "bias_correction(second_moment(fading))",
    ):
        tx = zoo.evaluate(row)
        state = with_count(tx, 2**31 - 1, g)
        if row.startswith("adam"):
            state = gradtx.set(state, step=2**31 - 1)
        _, state = tx.update(g, state)
        counts = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
        assert counts and all(int(x) == 2**31 - 1 for x in counts)


@pytest.mark.parametrize("decay", [fading, lambda step: 1 - 1 / (step + 10), lambda step: 0.999])
def test_gain_of_a_scheduled_decay_is_that_of_the_float64_product(decay):
    with jax.numpy_dtype_promotion("standard"):  # schedules come from anywhere
        steps = jnp.arange(3000)
        decays = jax.vmap(lambda step: jnp.asarray(decay(step), "float32"))(steps)
    gains = 1 - np.cumprod(np.asarray(decays, "f8"))
    tx = bias_correction(scale_by_momentum(decay))

    @jax.jit
    def from_one(gs):  # the average of ones stays 1 from a start at 1
        state = gradtx.set(tx.init(gs[0]), mu=1.0)
        return jax.lax.scan(lambda state, g: tx.update(g, state)[::-1], state, gs)[1]

    got = from_one(jnp.ones(3000))
    assert worst(np.asarray(got, "f8"), 1 / gains) < 5e-7


# --- The ends of the number line ------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e20, 1e25, 1e38])
def test_one_huge_gradient_does_not_freeze_adam_for_ever(size):
    gs = np.ones((20_001, 1), "f4")
    gs[0] = size
    steps = run(adam(1.0, b2=0.99), gs)
    assert np.all(np.isfinite(steps))
    np.testing.assert_allclose(steps[0], -1, rtol=1e-6)
    np.testing.assert_allclose(steps[-1], -1, rtol=1e-5)


# --- Structure: what a step costs, whatever the machine -------------------------------------------


def test_donated_adamw_step_moves_forty_bytes_a_parameter_without_temporaries():
    size, tx = 1 << 20, adamw(1e-3)
    params = {"w": jnp.ones(size), "b": jnp.ones(size)}

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    arguments = jax.eval_shape(lambda p: (p, tx.init(p), p), params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()
    per_parameter = compiled.cost_analysis()["bytes accessed"] / (2 * size)
    # float32: read and write the parameter, mu and nu, read the gradient: 28, and XLA's count of the
    # fusion's own operands.
    assert 28 <= per_parameter < 40.5
    assert compiled.memory_analysis().temp_size_in_bytes < 1e6


def test_adamw_is_one_traced_function_for_each_shape():
    tx = adamw(1e-3)
    params = {f"w{i}": jnp.ones((4, 3)) for i in range(20)} | {
        f"b{i}": jnp.ones(3) for i in range(20)
    }
    text = jax.jit(tx.update).lower(params, tx.init(params), params).as_text()
    assert text.count("func.func private @run_leaf") == 2
    assert text.count("call @run_leaf") == 40


def test_a_sum_has_no_gain():
    with pytest.raises(ValueError, match=r"bias_correction.*gain"):
        gradtx.bias_correction(gradtx.scale_by_momentum(1.0, form="heavy_ball"))

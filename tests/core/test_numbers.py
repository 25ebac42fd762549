"""The numbers: how exact a step is, over one step, over many, and at the ends of the number line.

What a test expects is computed in float64 from the decay that the program received: the Python number
itself where it was one when the step was traced, its float32 value where it came as an array.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import zoo
from rounding import roundings
from runs import steps, steps_of
from zoo import fading

import gradtx
from gradtx import adam, adamw, amsgrad, bias_correction, root, scale_by_momentum, second_moment

B2S = [0.9, 0.99, 0.999, 0.9999, 0.99999]


def average(xs, decay):
    """The bias-corrected average of `xs` in float64: m' = b m + (1 - b) x, divided by 1 - b^t."""
    mean = scipy.signal.lfilter([1 - decay], [1, -decay], xs.astype("f8"), axis=0)
    return mean / (1 - decay ** np.arange(1, len(xs) + 1))[:, None]


def worst(got, want):
    return np.max(np.abs(got - want) / np.abs(want))


# --- One step -------------------------------------------------------------------------------------


def test_first_adam_step_is_exact_for_every_b2():
    """-rate g / (|g| + eps), whatever the decays: Kingma and Ba (2015), arXiv:1412.6980, Algorithm 1."""
    g = jnp.asarray([1e-8, 1e-4, 0.1, 1.0, 3.0, 1e4, 1e18, -1e-6, -1.0], "float32")
    exact = np.asarray(g, "f8")
    exact = -0.1 * exact / (np.abs(exact) + 1e-8)
    constants = [recipe(0.1, b2=b2) for b2 in B2S for recipe in (adam, adamw, amsgrad)]
    arrays = [jax.tree.map(jnp.float32, tx) for tx in constants]

    def first(txs):
        return [tx.update(g, tx.init(g), 0 * g)[0] for tx in txs]

    compiled = jax.jit(lambda arrays: first(constants) + first(arrays))(arrays)
    eager = [tx for tx in (*constants, *arrays) if type(tx) is adam]
    for tx, u in zip([*constants, *arrays, *eager], [*compiled, *first(eager)], strict=True):
        # Of a dozen operations, five that are off by half a unit in the same direction: 3e-7.
        assert worst(np.asarray(u, "f8"), exact) < roundings(5, "float32"), tx


def test_first_adam_step_is_a_sign_from_the_smallest_to_the_largest_gradient():
    sizes = [1e-17, 1e-10, 1.0, 1e10, 1e18, 1e25, 1e30, float(jnp.finfo("float32").max)]
    g = jnp.asarray([*sizes, *(-x for x in sizes)], "float32")
    tx = adam(1.0, eps=0.0)
    np.testing.assert_allclose(tx.update(g, tx.init(g))[0], -np.sign(g), roundings(16, "float32"))
    tx = adam(1.0)  # where the square vanishes, epsilon is all that divides
    tiny = jnp.asarray([1e-30, 1e-25, 0.0], "float32")
    small = tx.update(tiny, tx.init(tiny))[0]
    np.testing.assert_allclose(small, -tiny / 1e-8, roundings(16, "float32"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_adam_in_low_precision_is_that_of_float32_rounded_once(dtype):
    gs = np.asarray(np.random.default_rng(0).normal(size=(200, 4)), dtype)
    gs[100:] *= np.asarray(0.0078125, dtype)  # a frozen second moment would show here
    got, want = steps(adam(0.1), gs, dtype=dtype), steps(adam(0.1), gs, dtype="float32")
    assert got.dtype == gs.dtype
    np.testing.assert_array_equal(got, want.astype(gs.dtype))


# --- Many steps -----------------------------------------------------------------------------------


def test_noise_stays_with_float64_over_a_hundred_thousand_steps():
    gs = np.random.default_rng(0).normal(size=(100_000, 8)).astype("f4")
    decays = 0.999, 0.9999
    roots = steps_of([root(bias_correction(second_moment(b))) for b in decays], gs, dtype="float32")
    adams = steps_of([adam(1.0, b2=b) for b in decays], gs, dtype="float32")
    m = average(gs, 0.9)
    for b2, rms, u in zip(decays, roots, adams, strict=True):
        # The roundings of the 1 / (1 - b2) steps that are remembered have either sign, and sum to the
        # root of their number: 2e-6 for 0.999.
        bound = roundings(np.sqrt(1 / (1 - b2)), "float32")
        v = average(gs.astype("f8") ** 2, b2)
        assert worst(rms, np.sqrt(v)) < bound
        # m passes through zero, so that an error counts against the learning rate.
        assert np.max(np.abs(u + m / (np.sqrt(v) + 1e-8))) < bound


def test_a_traced_decay_is_the_same_number_wherever_it_acts():
    """In the average and in its correction, so that a rounded decay cannot bias a step."""
    ones = jnp.ones((50, 2), "float32")
    noise = np.random.default_rng(0).normal(size=(5000, 4)).astype("f4")
    arrays = [adam(1.0, b2=jnp.float32(b2)) for b2 in (0.99, 0.9999)]

    def loop(tx, gradients):
        def body(state, g):
            updates, state = tx.update(g, state)
            return state, updates

        return jax.lax.scan(body, tx.init(gradients[0]), gradients)[1]

    @jax.jit
    def all_loops(traced, second):
        return [loop(tx, ones) for tx in (*arrays, *traced)], loop(second, jnp.asarray(noise))

    of_ones, square = all_loops(arrays, bias_correction(second_moment(jnp.float32(0.999))))
    for u in of_ones:
        # Three roundings per step: in the mean for ten steps, in the square for fifty, and its root.
        np.testing.assert_allclose(u, -1, roundings(3 * 10 + 3 * 50 / 2 + 16, "float32"))
    want = average(noise.astype("f8") ** 2, float(np.float32(0.999)))
    # Five standard deviations of what the sum remembers: 1 / (1 - b) steps of three roundings.
    assert worst(square, want) < roundings(5 * np.sqrt(3 * 1000 / 2), "float32")


# --- Bias correction ------------------------------------------------------------------------------


@pytest.mark.parametrize("x64", [False, True])
def test_gain_is_exact_from_the_first_step_to_the_last_countable_one(x64):
    """The gain of an average is 1 - b^t = -expm1(t log b), and log b is log1p(-(1 - b))."""
    counts = [0, 1, 2, 9, 99, 999, 10**4, 10**5, 10**6, 2**24, 2**31 - 2, 2**31 - 1]
    nu, decays = 0.25, [*B2S, *map(np.float32, B2S)]
    txs = [
        bias_correction(second_moment(b if type(b) is float else jnp.asarray(b))) for b in decays
    ]
    with jax.enable_x64(x64):
        g = jnp.ones((), "float32")

        def step(tx, count):
            return tx.update(g, gradtx.set(tx.init(g), count=count, nu=nu))

        # A loop over the counts, so that each is a scalar as in a step.
        every = jnp.asarray(counts, "int32")
        seen = jax.jit(lambda: [jax.lax.map(lambda n, tx=tx: step(tx, n), every) for tx in txs])()
    taken = np.minimum(np.asarray(counts) + 1, 2**31 - 1)
    # An average, a product, an expm1 and a division: below 5e-7.
    eight = roundings(8, "float32")
    for b, (got, new) in zip(map(float, decays), seen, strict=True):
        gain = -np.expm1(taken * np.log1p(-(1 - b)))
        np.testing.assert_allclose(got, (nu + (1 - b) * (1 - nu)) / gain, eight, err_msg=str(b))
        np.testing.assert_array_equal(new.count, taken)


def test_counts_saturate():
    g = jnp.ones(3)
    for row in (
        "adam(0.1)",
        "scale(fading)",
        "adam(fading)",
        "bias_correction(second_moment(fading))",
    ):
        tx = zoo.evaluate(row)
        state = gradtx.set(tx.init(g), count=2**31 - 1)
        if row.startswith("adam"):
            state = gradtx.set(state, step=2**31 - 1)
        _, state = tx.update(g, state)
        counts = [x for x in jax.tree.leaves(state) if x.dtype == jnp.int32]
        assert counts and all(int(x) == 2**31 - 1 for x in counts)


def test_gain_of_a_scheduled_decay_is_that_of_the_float64_product():
    schedules = [fading, lambda step: 1 - 1 / (step + 10), lambda step: 0.999]
    with jax.numpy_dtype_promotion("standard"):  # schedules come from anywhere
        decays = jax.jit(
            lambda n: [
                jax.lax.map(lambda i, s=s: jnp.asarray(s(i), "float32"), n) for s in schedules
            ]
        )(jnp.arange(3000))
    txs = [bias_correction(scale_by_momentum(decay)) for decay in schedules]

    @jax.jit
    def from_one(gs):  # the average of ones stays 1 from a start at 1
        starts = [gradtx.set(tx.init(gs[0]), mu=1.0) for tx in txs]
        return [
            jax.lax.scan(lambda state, g, tx=tx: tx.update(g, state)[::-1], start, gs)[1]
            for tx, start in zip(txs, starts, strict=True)
        ]

    for decay, got in zip(decays, from_one(jnp.ones(3000)), strict=True):
        gains = 1 - np.cumprod(np.asarray(decay, "f8"))
        assert worst(np.asarray(got, "f8"), 1 / gains) < roundings(8, "float32")


# --- The ends of the number line ------------------------------------------------------------------


def test_one_huge_gradient_does_not_freeze_adam_for_ever():
    gs = np.ones((20_001, 3), "f4")
    gs[0] = [1e20, 1e25, 1e38]
    updates = steps(adam(1.0, b2=0.99), gs, dtype="float32")
    assert np.all(np.isfinite(updates))
    np.testing.assert_allclose(updates[0], -1, roundings(16, "float32"))
    # For gradients of one there are three roundings per step: all of them count for 10 steps, and half
    # of them for 100 steps.
    np.testing.assert_allclose(updates[-1], -1, roundings(3 * 10 + 3 * 100 / 2 + 16, "float32"))


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

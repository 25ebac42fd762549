"""Optimizers fail without an error: these tests say what gradtx does where Optax 0.2.8 fails.

The inputs are in examples/silent_failures, which shows both libraries side by side. Here the answers
of gradtx are held against closed forms.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rounding import roundings

import gradtx
from examples.silent_failures import __main__ as script, cases

ROOT = Path(__file__).parents[2]


def test_n01_injected_hyperparameters_of_bfloat16_parameters_stay_float32():
    np.testing.assert_allclose(cases.n01(gradtx), -1e-3, rtol=2 * roundings(1, "bfloat16"))
    tx = gradtx.inject_hyperparams(gradtx.adam)(learning_rate=1e-3)
    state = tx.init(jnp.ones(3, "bfloat16"))
    np.testing.assert_allclose(state.hyperparams["b2"], 0.999, rtol=roundings(1, "float32"))


def test_n02_the_second_moment_of_bfloat16_parameters_follows_the_gradient():
    kept, small = 0.999**1500, float(jnp.asarray(0.01, "bfloat16"))
    want = 1 - kept, (1 - kept) * kept + small**2 * (1 - kept)
    # Three roundings per step, of which the average remembers those of the last thousand steps.
    np.testing.assert_allclose(cases.n02(gradtx), want, rtol=roundings(3 * 1000, "float32"))


def test_n03_a_sum_of_squares_of_bfloat16_parameters_keeps_growing():
    assert abs(cases.n03(gradtx) - 2000.1) < 2000.1 * roundings(2000, "float32")


def test_n04_a_thousand_small_steps_move_a_bfloat16_parameter():
    # The float32 copy is off by a rounding of 1 per step.
    assert abs(cases.n04(gradtx)) < roundings(3 * 1000, "float32")


def test_n05_a_centered_second_moment_of_a_constant_gradient_is_never_negative():
    assert cases.n05(gradtx) == "finite"
    tx, g = gradtx.rmsprop(1e-3, 0.99, centered=True), jnp.asarray(10.0)
    updates, state = cases.trained(tx, g, jnp.full(1000, 10.0))
    kept = 0.99**1000
    variance = 100 * kept * (1 - kept)
    # The mean stops short of g by half a rounding of it over 1 - 0.99, which is squared in the variance.
    off = 100 * (roundings(1, "float32") / 0.01) ** 2 + variance * roundings(5 * 1000, "float32")
    assert abs(optax.tree.get(state, "nu") - variance) < off
    want = -1e-3 * 10 / np.sqrt(variance + 1e-8)
    np.testing.assert_allclose(updates, want, rtol=off / variance)


def test_n06_a_zero_gradient_in_float16_gives_a_zero_update():
    assert cases.n06(gradtx) == 0


def test_n07_the_norm_of_float16_gradients_does_not_overflow():
    np.testing.assert_allclose(cases.n07(gradtx), 3**-0.5, rtol=2 * roundings(1, "float16"))


def test_n08_a_norm_over_many_bfloat16_leaves_is_summed_in_float32():
    np.testing.assert_allclose(cases.n08(gradtx), 20.0, rtol=roundings(4, "float32"))


def test_n09_clipping_a_zero_gradient_to_zero_gives_zero():
    assert cases.n09(gradtx) == 0


def test_n10_a_state_for_bfloat16_parameters_keeps_its_dtypes_under_float32_gradients():
    assert cases.n10(gradtx) == "0 of 7"


def test_n11_injected_hyperparameters_do_not_widen_a_narrow_leaf_beside_a_wide_one():
    assert cases.n11(gradtx) == "bfloat16"
    tx = gradtx.inject_hyperparams(gradtx.adam)(learning_rate=1e-3)
    old = jax.eval_shape(tx.init, cases.mixed())
    new = jax.eval_shape(lambda s: tx.update(cases.mixed(), s, cases.mixed())[1], old)
    assert old == new


def test_n12_a_transformation_that_measures_is_carried_through_a_scan():
    np.testing.assert_allclose(cases.n12(gradtx), 5.0, rtol=roundings(4, "float32"))


def test_n13_a_measure_of_one_leaf_does_not_hinder_a_map_over_the_state():
    assert cases.n13(gradtx) == 2, "the two moments of Adam belong to the parameter"


def test_n14_the_optimizer_runs_once_for_k_micro_batches_and_a_nan_spoils_one_step_at_most():
    assert cases.n14(gradtx) == "2 runs, NaN in [4]"
    tx = gradtx.accumulate(gradtx.sgd(1.0), 4, drop_nonfinite=True)
    gradients = jnp.array([jnp.nan, 1.0, 2.0, 3.0] + [1.0] * 4)
    step = lambda state, g: tx.update(g, state)[::-1]
    _, updates = jax.lax.scan(step, tx.init(jnp.zeros(())), gradients)
    np.testing.assert_array_equal(updates, [0, 0, 0, -2, 0, 0, 0, -1])


def test_n15_accumulation_hands_on_the_further_arguments_of_update():
    assert cases.n15(gradtx) == -0.5


def test_n16_no_version_is_compared_as_a_text_and_an_explicit_mesh_is_served():
    """In Optax, the comparison makes sums over sharded arrays fail under an explicit mesh."""
    assert cases.n16(gradtx) == 0
    sharding = jax.NamedSharding(jax.make_mesh((2,), ("x",)), jax.P("x"))
    g = jax.device_put(jnp.array([3.0, 4.0]), sharding)
    np.testing.assert_allclose(gradtx.global_norm(g), 5.0, rtol=roundings(4, "float32"))


def test_n17_a_gradient_of_another_shape_is_an_error():
    assert cases.n17(gradtx) == ("raises ValueError", "raises ValueError")


def test_n18_an_offset_of_adafactors_decay_gives_finite_updates():
    """A decay of 0 makes the second moment 1, the parameter is 1, and the rate is 0.1."""
    np.testing.assert_allclose(cases.n18(gradtx), -0.1, rtol=roundings(12, "float32"))


def test_n19_a_pass_over_all_leaves_keeps_the_dtype_of_each():
    assert cases.n19(gradtx) == "bfloat16"


def test_n20_the_learning_rate_and_the_count_are_read_from_the_state():
    rate, count = cases.n20(gradtx)
    assert count == 3
    np.testing.assert_allclose(rate, 0.1 * (1 - 2 / 10), rtol=roundings(4, "float32"))


@pytest.mark.skipif(optax.__version__ != "0.2.8", reason="the page shows Optax 0.2.8")
def test_the_page_on_numbers_shows_what_the_script_prints():
    page = (ROOT / "docs" / "numbers.md").read_text()
    (shown,) = re.findall(r"^\|  \| What is asked .*\n(?:\|.*\n)*", page, re.MULTILINE)
    # Optax computes in the precision of its inputs, and broadcasts: the settings are those of a user.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert shown == script.table()

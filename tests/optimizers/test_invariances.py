"""What optimizers do not see: scales, signs, permutations, rotations, phases; and their limits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from runs import normal, rng, rotation, run, steps

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
    scale_by_adagrad,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rms,
    sgd,
)  # fmt: skip  # fmt: skip

EPS_FREE = {
    "adagrad": adagrad(1.0, 0.0, 0.0),
    "rmsprop": rmsprop(1.0, eps=0.0),
    "rmsprop_centered": rmsprop(1.0, eps=0.0, centered=True, initial_scale=1.0),
    "adam": adam(1.0, eps=0.0),
    "amsgrad": amsgrad(1.0, eps=0.0),
    "nadam": nadam(1.0, eps=0.0),
}


ELEMENTWISE = {
    "sgd": sgd(0.1),
    "heavy_ball": sgd(0.1, 0.9),
    "nesterov": sgd(0.1, 0.9, nesterov=True),
    "adagrad": adagrad(0.1),
    "rmsprop": rmsprop(0.1),
    "rmsprop_centered": rmsprop(0.1, centered=True, momentum=0.9),
    "adadelta": adadelta(),
    "adam": adam(0.1),
    "adamw": adamw(0.1),
    "adam_keras": adam(0.1, convention="keras"),
    "amsgrad": amsgrad(0.1),
    "nadam": nadam(0.1),
}


def momentum(form="ema", b=0.9, lr=1.0, **options):
    return chain(scale_by_momentum(b, form, **options), scale_by_learning_rate(lr))


@pytest.mark.parametrize("name", EPS_FREE)
def test_oracle_21_size_of_the_gradient_is_no_matter(name):
    tx, g = EPS_FREE[name], normal(40, 6).astype("f4")
    if name == "rmsprop_centered":
        tx = rmsprop(1.0, eps=0.0, centered=True)
        g[0] = (
            0  # else the first deviation is 0, and the second gradient starts from a quotient of 0
        )
    u = steps(tx, g, dtype="float32")
    np.testing.assert_array_equal(steps(tx, g * 2.0**10, dtype="float32"), u)
    np.testing.assert_array_equal(steps(tx, g * 2.0**-10, dtype="float32"), u)
    # Relative to the largest step, which for RMSProp is 1 / sqrt(1 - decay) of the rate.
    other = steps(tx, g * np.float32(1.7), dtype="float32")
    assert_allclose(other, u, rtol=0, atol=3e-6 if "centered" in name else 1e-6 * np.max(np.abs(u)))


def test_oracle_21_linear_methods_scale_with_the_gradient():
    g = normal(40, 6).astype("f4")
    for tx in (sgd(0.1), sgd(0.1, 0.9), sgd(0.1, 0.9, nesterov=True), momentum()):
        u = steps(tx, g, dtype="float32")
        np.testing.assert_array_equal(steps(tx, g * 2.0**-10, dtype="float32"), u * 2.0**-10)


@pytest.mark.parametrize("name", ["adam", "adagrad", "amsgrad", "nadam"])
def test_oracle_22_diagonal_rescaling_is_no_matter(name):
    g, d = normal(40, 6), 10.0 ** rng(1).uniform(-5, 5, 6)
    assert_allclose(steps(EPS_FREE[name], g * d), steps(EPS_FREE[name], g), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_oracle_23_permutations_and_signs_pass_through(name):
    tx, g, theta = ELEMENTWISE[name], normal(30, 6), normal(6)
    order, signs = rng(1).permutation(6), np.sign(normal(6))
    u, _ = run(tx, g, theta)
    np.testing.assert_array_equal(run(tx, g[:, order], theta[order])[0], u[:, order])
    np.testing.assert_array_equal(run(tx, g * signs, theta * signs)[0], u * signs)


def test_oracle_24_what_turns_with_the_gradient_and_what_does_not():
    g, q = normal(30, 5), rotation(5)
    turns = [sgd(0.1), sgd(0.1, 0.9), sgd(0.1, 0.9, nesterov=True), momentum()]
    for tx in turns:
        assert_allclose(steps(tx, g @ q.T), steps(tx, g) @ q.T, rtol=0, atol=1e-14)
    for tx in EPS_FREE.values():
        assert np.max(np.abs(steps(tx, g @ q.T) - steps(tx, g) @ q.T)) > 0.1
    e = np.array([[1.0, 0.0]])
    turned = np.array([[1.0, 1.0]]) / np.sqrt(2)
    assert_allclose(steps(adam(0.1, eps=0.0), e), [[-0.1, 0]], 1e-13)
    assert_allclose(steps(adam(0.1, eps=0.0), turned), [[-0.1, -0.1]], 1e-13)


def test_oracle_29_limits_are_simpler_methods():
    g = normal(50, 5)
    np.testing.assert_array_equal(steps(adam(0.1, 0.0, 0.0), g), -(0.1 * (g / (np.abs(g) + 1e-8))))
    np.testing.assert_array_equal(steps(sgd(0.1, 0.0), g), steps(sgd(0.1), g))
    # RMSProp whose decay is 1 - 1/t keeps the mean of all squares; AdaGrad keeps their sum.
    t = np.arange(1, 51)[:, None]
    mean = scale_by_rms(lambda count: 1.0 - 1.0 / (count + 1.0), eps=0.0)
    assert_allclose(steps(mean, g), np.sqrt(t) * steps(scale_by_adagrad(0.0, 0.0), g), 1e-13)


def test_oracle_33_a_sum_over_the_batch_is_a_larger_rate_or_nothing():
    g, size = normal(40, 5), 8.0
    np.testing.assert_array_equal(steps(sgd(0.125), size * g), steps(sgd(size * 0.125), g))
    np.testing.assert_array_equal(steps(adam(0.1, eps=0.0), size * g), steps(adam(0.1, eps=0.0), g))


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


each = pytest.mark.parametrize("name", SYSTEMS)


@each
def test_B8_complex_entries_turn_with_their_phase(name):
    if name == "muon":
        return  # real matrices only; complex ones go to its auxiliary AdamW
    tx, turn = SYSTEMS[name], np.exp(0.7j)
    real = np.random.default_rng(0).normal(size=(20, 1))
    u = steps(tx, real.astype("c16"), dtype="complex128")
    assert_allclose(u.imag, 0, atol=1e-15)
    assert_allclose(u.real, steps(tx, real), 1e-9, 1e-12)
    assert_allclose(steps(tx, real * turn, dtype="complex128"), u * turn, 1e-9, 1e-12)

"""What optimizers do not see: scales, signs, permutations, rotations and phases; and their limits.

Several runs of one optimizer stand side by side as columns of one array, for these optimizers treat
every number by itself. There are always a multiple of sixteen of them where runs must be equal to the
last bit, so that a processor takes all of them through the same vector instructions.
"""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from rounding import roundings
from runs import normal, rng, rotation, run_all, steps, steps_of

from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    centered_second_moment,
    chain,
    nadam,
    nadamw,
    rmsprop,
    scale_by_adagrad,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rms,
    second_moment,
    sgd,
)  # fmt: skip

CENTERED = rmsprop(1.0, eps=0.0, centered=True)
EPS_FREE = {
    "adagrad": adagrad(1.0, 0.0, 0.0),
    "rmsprop": rmsprop(1.0, eps=0.0),
    "adam": adam(1.0, eps=0.0),
    "amsgrad": amsgrad(1.0, eps=0.0),
    "nadam": nadam(1.0, eps=0.0),
}
LINEAR = {
    "sgd": sgd(0.1),
    "heavy_ball": sgd(0.1, 0.9),
    "nesterov": sgd(0.1, 0.9, nesterov=True),
    "average": chain(scale_by_momentum(0.9), scale_by_learning_rate(1.0)),
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
# Three roundings per step in each average: ten steps of the mean, forty of the square, whose root takes
# half. Twice, for two runs are compared.
TWO_RUNS = roundings(2 * (3 * 10 + 3 * 40 / 2 + 20))


def side_by_side(*runs):
    return np.concatenate(runs, axis=1)


def apart(updates, n):
    return np.split(updates, n, axis=1)


def test_powers_of_two_pass_through_linear_methods_and_are_not_seen_by_those_without_epsilon():
    """Such a factor multiplies without rounding, so these hold to the last bit, in float32 too: u(c g)
    is c u(g) for sums of gradients, and u(g) for quotients of averages, also for a factor for each
    coordinate, which is a diagonal change of variables."""
    g = normal(40, 8).astype("f4")
    each = 2.0 ** rng(1).integers(-17, 18, 8)
    # Else the first deviation is 0, and the second gradient starts from a quotient of 0.
    g[0] = 0
    runs = side_by_side(g, g * 2.0**10, g * 2.0**-10, g * each)
    txs = {**EPS_FREE, "rmsprop_centered": CENTERED}
    for name, u in steps_of({**txs, **LINEAR}, runs, dtype="float32").items():
        plain, up, down, changed = apart(u, 4)
        assert np.any(plain), name
        factors = (2.0**10, 2.0**-10, each) if name in LINEAR else (1, 1, 1)
        for other, factor in zip((up, down, changed), factors, strict=True):
            assert_array_equal(other, factor * plain, err_msg=name)


def test_other_factors_are_not_seen_either_but_for_rounding():
    g, each = normal(40, 6), 10.0 ** rng(1).uniform(-5, 5, 6)
    for name, u in steps_of(EPS_FREE, side_by_side(g, g * 1.7, g * each)).items():
        plain, scaled, changed = apart(u, 3)
        error = TWO_RUNS * np.abs(plain).max()
        assert_allclose(scaled, plain, rtol=0, atol=error, err_msg=name)
        assert_allclose(changed, plain, rtol=0, atol=error, err_msg=name)
    # The variance of the first numbers may be much smaller than their squares, of which it is made.
    g[0] = 0
    square, variance, updates = steps_of(
        [second_moment(0.9), centered_second_moment(0.9), CENTERED], side_by_side(g, g * 1.7)
    )
    u, scaled = apart(updates, 2)
    worst = np.max(square[1:] / variance[1:])
    assert_allclose(scaled, u, rtol=0, atol=TWO_RUNS * worst * np.abs(u).max())


def test_permutations_and_signs_pass_through():
    """A permutation or a change of signs of coordinates, of gradients and of the start, gives that of
    the updates, for whatever works on every number by itself and is odd."""
    g, theta = normal(30, 16), normal(16)
    order, signs = rng(1).permutation(16), np.sign(normal(16))
    runs = side_by_side(g, g[:, order], g * signs)
    starts = np.concatenate([theta, theta[order], theta * signs])
    seen = run_all(ELEMENTWISE.values(), runs, starts)
    for name, (updates, _) in zip(ELEMENTWISE, seen, strict=True):
        u, ordered, changed = apart(updates, 3)
        assert_array_equal(ordered, u[:, order], err_msg=name)
        assert_array_equal(changed, u * signs, err_msg=name)


def test_linear_methods_turn_with_the_gradient_and_quotients_by_coordinate_do_not():
    """A rotation commutes with sums, and not with a division of each coordinate by its own size."""
    g, q = normal(30, 5), rotation(5)
    quotients = {
        **EPS_FREE,
        "rmsprop_centered": rmsprop(1.0, eps=0.0, centered=True, initial_scale=1),
    }
    for name, updates in steps_of({**LINEAR, **quotients}, side_by_side(g, g @ q.T)).items():
        u, turned = apart(updates, 2)
        difference = np.max(np.abs(turned - u @ q.T))
        if name in LINEAR:
            # Two products by Q, of five terms each, and three roundings per step for ten steps.
            assert difference < roundings(2 * (5 + 3 * 10)) * np.sqrt(5) * np.abs(u).max(), name
        else:
            assert difference > 0.1, name
    axis, diagonal = np.array([1.0, 0.0]), np.array([1.0, 1.0]) / np.sqrt(2)
    u = steps(adam(0.1, eps=0.0), np.concatenate([axis, diagonal])[None])
    assert_allclose(u, [[-0.1, 0, -0.1, -0.1]], roundings(24))


def test_a_sum_over_the_batch_instead_of_a_mean_is_a_larger_rate_or_nothing():
    """Eight times the gradient is eight times the rate for SGD; Adam divides the factor out."""
    g, size = normal(40, 8), 8.0
    one, eight, adams = steps_of(
        [sgd(0.125), sgd(size * 0.125), adam(0.1, eps=0.0)], side_by_side(g, size * g)
    )
    assert_array_equal(apart(one, 2)[1], apart(eight, 2)[0])
    assert_array_equal(*apart(adams, 2))


def test_limits_of_hyperparameters_are_simpler_methods():
    """Adam whose averages forget at once divides a gradient by its size. RMSProp whose decay is
    1 - 1/t keeps the mean of all squares, and AdaGrad keeps their sum."""
    g = normal(50, 5)
    forgetful, without, plain, mean, total = steps_of(
        [
            adam(0.1, 0.0, 0.0),
            sgd(0.1, 0.0),
            sgd(0.1),
            scale_by_rms(lambda count: 1.0 - 1.0 / (count + 1.0), eps=0.0),
            scale_by_adagrad(0.0, 0.0),
        ],
        g,
    )
    assert_allclose(forgetful, -0.1 * g / (np.abs(g) + 1e-8), roundings(12))
    assert_array_equal(without, plain)
    # A mean has three roundings per step and its decay two more; a sum has one. Roots take half.
    t = np.arange(1, 51)[:, None]
    assert_allclose(mean, np.sqrt(t) * total, roundings((5 + 1) * 50 / 2 + 10))


def test_complex_numbers_turn_with_their_phase_and_real_ones_are_a_special_case():
    """With |g|^2 in place of g^2, multiplying a gradient by a phase multiplies its update by it."""
    systems = ELEMENTWISE | {
        "average": chain(scale_by_momentum(0.9), scale_by_learning_rate(0.1)),
        "heavy_ball_torch": sgd(0.1, 0.9, dampening=0.5),
        "heavy_ball_keras": sgd(0.1, 0.9, convention="keras"),
        "adagrad_torch": adagrad(0.1, convention="torch"),
        "rmsprop_torch": rmsprop(0.1, momentum=0.9, convention="torch"),
        "rmsprop_debiased": rmsprop(0.1, bias_correction=True),
        "adam_root": adam(0.1, eps_root=1e-8),
        "adamw_paper": adamw(0.1, schedule=lambda t: 1.0 / (1.0 + t), convention="paper"),
        "amsgrad_torch": amsgrad(0.1, convention="torch"),
        "nadam_torch": nadam(0.1, convention="torch"),
        "nadamw": nadamw(0.1),
    }  # fmt: skip
    full = chain(scale_by_full_matrix_adagrad(), scale_by_learning_rate(0.1))
    real, turn = np.random.default_rng(0).normal(size=(20, 1)), np.exp(0.7j)
    runs = np.hstack([real + 0j, real * turn])
    want = steps_of(systems, real) | {"full": steps(full, real)}
    seen = steps_of(systems, runs, dtype="complex128")
    # The full matrix would see two columns together: two arrays of one number.
    both = steps(full, dict(zip("ab", np.split(runs, 2, axis=1), strict=True)), dtype="complex128")
    seen["full"] = np.hstack([both["a"], both["b"]])
    for name, u in seen.items():
        plain, (same, turned) = want[name], apart(u, 2)
        # Twenty steps of ten operations, which AdaDelta and decays feed back into what follows.
        error = roundings(20 * 10 * 10) * np.abs(plain).max()
        assert_allclose(same.imag, 0, atol=roundings(4) * np.abs(plain).max(), err_msg=name)
        assert_allclose(same.real, plain, rtol=0, atol=error, err_msg=name)
        assert_allclose(turned, same * turn, rtol=0, atol=error, err_msg=name)

"""What the equations imply, held against what gradtx does: 44 oracles, by number.

Errors, points and steps are float64 unless a test says otherwise; `closed_forms.py` has the formulas.
"""

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from references import KELLER, polar_factor
from runs import points, run, step_matrix, steps

from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    apply_updates,
    bias_correction,
    chain,
    dampened,
    eval_params,
    identity,
    lookahead_params,
    nadam,
    newton_schulz,
    orthogonalize_newton_schulz,
    rmsprop,
    scale,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rms,
    second_moment,
    sgd,
    sum_of_squares,
)  # fmt: skip

MU, L = 1.0, 100.0
CURVATURES = np.linspace(MU, L, 7)
ONES = np.ones(CURVATURES.shape)
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


def quadratic(x):
    return CURVATURES * x


def rng(*key):
    """Numbers that do not depend on which tests ran before."""
    return np.random.default_rng(key)


def normal(*shape):
    return rng(*shape).normal(size=shape)


def momentum(form="ema", b=0.9, lr=1.0, **options):
    return chain(scale_by_momentum(b, form, **options), scale_by_learning_rate(lr))


def warmup(count):
    return 0.02 * jnp.minimum(1.0, (1.0 + count) / 20.0)


def cosine(count):
    return 0.01 * (1 + jnp.cos(jnp.pi * count / 60.0))


def rotation(n):
    return np.linalg.qr(normal(n, n))[0]


# --- Quadratics -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-5)])
def test_oracle_01_gradient_descent_contracts_by_one_minus_rate_times_curvature(dtype, rtol):
    e = points(sgd(0.005), lambda x: CURVATURES.astype(dtype) * x, ONES, 50, dtype=dtype)
    assert_allclose(e, [cf.gd_error(t, 0.005, CURVATURES) for t in range(51)], rtol)


def test_oracle_02_best_rate_contracts_both_ends_alike():
    lr, factor = cf.gd_best(MU, L)
    e = points(sgd(lr), quadratic, ONES, 50)
    assert_allclose(e[1:, 0] / e[:-1, 0], factor, 1e-13)
    assert_allclose(e[1:, -1] / e[:-1, -1], -factor, 1e-13)


def test_oracle_03_heavy_ball_is_a_recurrence_of_two_terms():
    lr, b = 0.01, 0.9
    e = points(sgd(lr, b), quadratic, ONES, 60)
    before = np.concatenate([e[:1], e[:-2]])
    assert_allclose(e[1:], (1 + b - lr * CURVATURES) * e[:-1] - b * before, rtol=0, atol=1e-14)


def test_oracle_04_heavy_ball_rings_with_its_period():
    lr, b, _ = cf.heavy_ball_best(MU, L)
    inside = CURVATURES[1:-1]
    e = points(sgd(lr, b), lambda x: inside * x, inside**0, 100)
    t = np.arange(101)[:, None]
    assert_allclose(e, cf.heavy_ball_error(t, lr, b, inside), rtol=0, atol=1e-13)
    # Seen as what it is: at curvature 3 the sign changes twice in 22.028 steps.
    e = points(sgd(lr, b), lambda x: 3.0 * x, np.ones(()), 400)
    changes = np.flatnonzero(np.diff(np.sign(e)))
    assert_allclose(2 * (changes[-1] - changes[0]) / (len(changes) - 1), 22.028, 0.01)
    assert_allclose(2 * np.pi / cf.heavy_ball_angle(lr, b, 3.0), 22.028, 1e-4)


def test_oracle_05_best_heavy_ball_has_roots_of_one_modulus_double_at_the_ends():
    lr, b, modulus = cf.heavy_ball_best(MU, L)
    for curvature in (1.5, 3.0, 50.0):
        a, _ = step_matrix(sgd(lr, b), curvature)
        assert_allclose(np.abs(np.linalg.eigvals(a)), modulus, 1e-12)
    e = points(sgd(lr, b), lambda x: np.array([MU, L]) * x, np.ones(2), 100)
    t = np.arange(101)
    for i, z in enumerate((modulus, -modulus)):
        assert_allclose(e[:, i], cf.heavy_ball_error_double_root(t, z), rtol=0, atol=1e-12)


def test_oracle_06_nesterov_is_a_recurrence_of_two_terms_on_the_shifted_iterate():
    lr, b = 0.005, 0.8
    phi = points(sgd(lr, b, nesterov=True), quadratic, ONES, 60)
    assert_allclose(phi[1], 1 - lr * CURVATURES * (1 + b), 1e-14)
    shrink = 1 - lr * CURVATURES
    want = (1 + b) * shrink * phi[1:-1] - b * shrink * phi[:-2]
    assert_allclose(phi[2:], want, rtol=0, atol=1e-13)


def test_oracle_07_nesterov_contracts_at_its_known_rates():
    kappa = L / MU
    scan = np.linspace(MU, L, 2001)
    lr, b, best = cf.nesterov_best(MU, L)
    textbook = 1 / L, (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    for (rate, decay), want in ((textbook, 1 - 1 / np.sqrt(kappa)), ((lr, b), best)):
        assert_allclose(cf.nesterov_rate(rate, decay, scan), want, 1e-6)
        tx = sgd(rate, decay, nesterov=True)
        assert_allclose(max(_radius(step_matrix(tx, c)[0]) for c in (MU, L)), want, 1e-6)
    near = [cf.nesterov_rate(lr * x, b, scan) for x in (0.99, 1.01)]
    near += [cf.nesterov_rate(lr, b * x, scan) for x in (0.99, 1.01)]
    assert min(near) > best


def _radius(a):
    return np.max(np.abs(np.linalg.eigvals(a)))


# --- Momentum and look-ahead ----------------------------------------------------------------------


def inside(b, lr, **options):
    return chain(scale_by_learning_rate(lr), scale_by_momentum(b, form="heavy_ball", **options))


def smooth(x):
    return CURVATURES / 10 * jnp.tanh(x) + 0.3 * x


def looking_ahead(tx, n):
    """(points where gradients were taken, parameters after) of the explicit look-ahead."""
    with jax.enable_x64(True):

        def body(carry, _):
            theta, state = carry
            phi = lookahead_params(tx, theta, state)
            updates, state = tx.update(smooth(phi), state, theta)
            theta = apply_updates(theta, updates)
            return (theta, state), (phi, theta)

        theta = jnp.asarray(ONES)
        start = theta, tx.init(theta)
        return jax.jit(lambda start: jax.lax.scan(body, start, length=n)[1])(start)


def shifted(tx, n):
    """(points where gradients were taken, parameters behind them) of the shifted iterate."""
    with jax.enable_x64(True):

        def body(carry, _):
            phi, state = carry
            updates, state = tx.update(smooth(phi), state, phi)
            after = apply_updates(phi, updates)
            return (after, state), (phi, eval_params(tx, after, state))

        phi = jnp.asarray(ONES)
        start = phi, tx.init(phi)
        return jax.jit(lambda start: jax.lax.scan(body, start, length=n)[1])(start)


SAME = {
    "heavy_ball": lambda **n: momentum("heavy_ball", 0.8, 0.02, **n),
    "average": lambda **n: momentum("ema", 0.8, 0.1, **n),
    "inside": lambda **n: inside(0.8, 0.02, **n),
    "inside_warmup": lambda **n: inside(0.8, warmup, **n),
    "inside_cosine": lambda **n: inside(0.8, cosine, **n),
}


@pytest.mark.parametrize("name", SAME)
def test_oracle_08_look_ahead_is_the_shifted_iterate(name):
    explicit, stored = SAME[name](), SAME[name](nesterov=True)
    for ours, theirs in zip(looking_ahead(explicit, 80), shifted(stored, 80), strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("schedule", "least"), [(warmup, 0.01), (cosine, 1e-5)])
def test_oracle_08_with_a_scheduled_rate_outside_they_are_two_methods(schedule, least):
    explicit = looking_ahead(momentum("heavy_ball", 0.8, schedule), 80)[0]
    stored = shifted(momentum("heavy_ball", 0.8, schedule, nesterov=True), 80)[0]
    assert np.max(np.abs(explicit - stored)) > least


def test_oracle_09_the_average_is_the_heavy_ball_at_a_smaller_rate():
    g = normal(100, 5)
    ours = steps(momentum("ema", 0.9, warmup), g)
    theirs = steps(momentum("heavy_ball", 0.9, lambda t: (1 - 0.9) * warmup(t)), g)
    assert_allclose(ours, theirs, rtol=0, atol=1e-14)
    torch = chain(scale(dampened(0.9)), scale_by_momentum(0.9, form="heavy_ball"))
    difference = steps(torch, g) - steps(scale_by_momentum(0.9), g)
    t = np.arange(1, 101)[:, None]
    assert_allclose(difference, 0.9**t * g[0], rtol=0, atol=1e-14)


def test_oracle_10_of_a_constant_and_of_a_ramp():
    t = np.arange(1.0, 201)[:, None]
    ball = steps(scale_by_momentum(0.9, form="heavy_ball"), 3 * t**0)
    assert_allclose(ball, 3 * cf.heavy_ball_gain(t, 0.9), 1e-13)
    assert_allclose(steps(scale_by_momentum(0.9), t), cf.ema_of_ramp(t, 0.9), 1e-12)


# In float32 what remains is the rounding of a hundred additions to a sum that starts at 0.
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 2e-6)])
@pytest.mark.parametrize("b", [0.9, 0.999, 0.9999])
def test_oracle_11_corrected_average_of_a_constant_is_the_constant(b, dtype, rtol):
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    for tx in (scale_by_momentum(b), scale_by_momentum(b, form="heavy_ball")):
        assert_allclose(steps(bias_correction(tx), g, dtype=dtype), g, rtol)
    assert_allclose(steps(bias_correction(second_moment(b)), g, dtype=dtype), g**2, rtol)


def test_oracle_12_moments_of_noise():
    g = normal(100, 20_000)
    t = np.arange(1, 101)
    v = steps(second_moment(0.9), g)
    assert_allclose(v.mean(1), cf.ema_gain(t, 0.9), rtol=5 * np.sqrt(2 / 20_000))
    m = steps(scale_by_momentum(0.9), g)
    assert_allclose(m.var(1), cf.ema_variance(t, 0.9), rtol=5 * np.sqrt(2 / 20_000))
    m = steps(bias_correction(scale_by_momentum(0.9)), g)
    assert_allclose(m.var(1), cf.ema_variance(t, 0.9, debiased=True), rtol=5 * np.sqrt(2 / 20_000))


# --- AdaGrad, RMSProp, AdaDelta -------------------------------------------------------------------


def test_oracle_13_adagrad_under_a_constant_gradient():
    g = np.full((200, 3), [0.1, -7.0, 1e5])
    updates, theta = run(adagrad(1.0, 0.0, 0.0), g)
    t = np.arange(1, 201)[:, None]
    assert_allclose(updates, -np.sign(g) * cf.adagrad_constant_step(t), 1e-13)
    low, high = cf.adagrad_displacement_bounds(200)
    assert np.all((low <= np.abs(theta[-1])) & (np.abs(theta[-1]) <= high))


@pytest.mark.parametrize("kind", ["constant", "noise", "growing", "shrinking"])
def test_oracle_14_sum_of_adagrad_steps_times_gradients_is_bounded(kind):
    t = np.arange(1.0, 301)[:, None]
    g = {"constant": 0 * t + 2, "noise": normal(300, 4), "growing": 1.05**t, "shrinking": 0.95**t}[
        kind
    ]
    sums = -np.sum(g * steps(adagrad(1.0, 0.0, 0.0), g), 0)
    want, bound = cf.adagrad_lemma(g)
    assert_allclose(sums, want, 1e-12)
    assert np.all(sums <= bound)


@pytest.mark.parametrize("kind", ["signs", "noise", "against", "rare"])
def test_oracle_15_regret_of_adagrad_in_a_box(kind):
    lr, radius, n = 0.3, 1.0, 300
    noise, rare = normal(n, 4), normal(n, 4) * (rng(1).random((n, 4)) < 0.05)
    tx = adagrad(lr, 0.0, 0.0)
    with jax.enable_x64(True):

        def body(carry, row):
            x, state = carry
            # The adversary that moves away from where the player stands.
            away = jnp.where(x >= 0, 1.0, -1.0) * jnp.abs(row)
            g = {"signs": jnp.sign(row), "against": away}.get(kind, row)
            updates, state = tx.update(g, state)
            return (jnp.clip(x + updates, -radius, radius), state), (g, x)

        x = jnp.full(4, 0.5)
        rows = jnp.asarray(rare if kind == "rare" else noise)
        g, x = jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), rows)[1])()
    g, x = np.asarray(g), np.asarray(x)
    regret = np.sum(g * x) + radius * np.abs(g.sum(0)).sum()
    assert regret <= cf.adagrad_regret_bound(g, np.full(4, 2 * radius), lr)
    assert kind != "against" or regret > 0  # the bound has something to bound


def test_oracle_16_full_matrix_adagrad_turns_with_its_gradients():
    full = chain(scale_by_full_matrix_adagrad(0.0), scale_by_learning_rate(1.0))
    g, q = normal(30, 5), rotation(5)
    u = steps(full, g)
    assert_allclose(u[0], -g[0] / np.linalg.norm(g[0]), 1e-13)
    assert_allclose(steps(full, g @ q.T), u @ q.T, rtol=0, atol=1e-9)
    diagonal = adagrad(1.0, 0.0, 0.0)
    assert np.max(np.abs(steps(diagonal, g @ q.T) - steps(diagonal, g) @ q.T)) > 0.1
    axes = np.eye(5)[rng(1).integers(5, size=30)] * normal(30, 1)
    for same in (axes, g[:, :1]):
        assert_allclose(steps(full, same), steps(diagonal, same), rtol=0, atol=1e-12)


def test_oracle_17_rmsprop_under_a_constant_gradient():
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    t = np.arange(1, 101)[:, None]
    u = steps(rmsprop(1.0, 0.9, eps=0.0), g)
    assert_allclose(u, -np.sign(g) * cf.rmsprop_constant_step(t, 0.9), 1e-13)
    assert_allclose(np.abs(u[0]), 3.1623, 1e-5)


def test_oracle_18_corrected_rmsprop_is_adam_without_momentum():
    g = normal(100, 5)
    ours = steps(scale_by_rms(0.99, eps_in_sqrt=False, bias_correction=True), g)
    assert_allclose(ours, steps(scale_by_adam(0.0, 0.99), g), 1e-14)


def test_oracle_26_adadelta_starts_at_epsilon_and_grows():
    g = np.array([1e-4, 0.1, -3.0, 1e5])
    u = steps(adadelta(), g[None])
    assert_allclose(u[0], cf.adadelta_first_step(g, 0.9, 1e-6), 1e-13)
    u = np.abs(steps(adadelta(), np.full((4000, 1), 5.0)))
    ratio = u / cf.adadelta_growth(np.arange(1, 4001)[:, None], 0.9, 1e-6)
    assert_allclose(ratio[499], 1.10, atol=0.01)
    assert_allclose(ratio[-1], 1, 0.02)


def test_oracle_27_adadelta_keeps_the_units_only_if_epsilon_scales_with_them():
    # x -> c x takes g -> g / c. Epsilon is the square of an x in the one root and of a g in the other,
    # so one number cannot keep the units of both. (Two could; AdaDelta has one.)
    g, c = normal(50, 4), 100.0
    broken = steps(adadelta(eps=1e-6), g / c) / c - steps(adadelta(eps=1e-6), g)
    assert np.max(np.abs(broken)) > 0.9 * np.max(np.abs(steps(adadelta(), g)))
    # What it does have is the units of the root of epsilon.
    both = steps(adadelta(eps=1e-6 * c**2), g * c)
    assert_allclose(both, c * steps(adadelta(eps=1e-6), g), 1e-12)


# --- Adam -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 3e-7)])
@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.5, 0.9), (0.0, 0.9999), (0.99, 0.99999)])
def test_oracle_19_first_step_of_adam_is_almost_a_sign(b1, b2, dtype, rtol):
    g = np.array([1e-8, -1e-3, 1.0, 1e4]).astype("f4").astype("f8")
    # Epsilon hat divides by the root of what the float32 program has for 1 - b2.
    assert_allclose(
        steps(adam(1.0, b1, b2), g[None], dtype=dtype)[0], cf.adam_first_step(g, 1e-8), rtol
    )
    hat = steps(adam(1.0, b1, b2, eps_hat=True), g[None], dtype=dtype)[0]
    assert_allclose(hat, cf.adam_first_step_eps_hat(g, b2, 1e-8), rtol)


@pytest.mark.parametrize("name", ["adam", "amsgrad"])
def test_oracle_20_constant_gradient_gives_steps_of_the_rate(name):
    g = np.full((100, 3), [0.1, -7.0, 1e5])
    assert_allclose(steps(EPS_FREE[name], g), -np.sign(g), 1e-13)


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


@pytest.mark.parametrize(("b1", "b2"), [(0.9, 0.999), (0.9, 0.99), (0.9, 0.9), (0.5, 0.9)])
def test_oracle_25_the_bound_on_adams_step_holds_and_is_attained(b1, b2):
    tx, n = adam(1.0, b1, b2, eps=0.0), 60
    t = np.arange(1, n + 1)[:, None]
    bound = cf.adam_step_bound(t, b1, b2)
    spiky = normal(n, 6) * 10.0 ** rng(1).uniform(-6, 6, (n, 6))
    for g in (normal(n, 6), spiky, np.sort(np.abs(spiky), 0)):
        assert np.all(np.abs(steps(tx, g)) <= bound * (1 + 1e-12))
    worst = cf.adam_worst_gradients(n, b1, b2)[:, None]
    assert_allclose(np.abs(steps(tx, worst)[-1]), bound[-1], 1e-11)
    if b1 == b2:
        assert_allclose(bound, 1, 1e-12)


def test_oracle_28_without_a_gradient_adam_coasts():
    t0, k = 20, np.arange(1, 41)[:, None]
    g = np.concatenate([normal(t0, 4), np.zeros((40, 4))])
    u = np.abs(steps(adam(1.0, eps=0.0), g))
    assert_allclose(
        u[t0:] / u[t0 - 1], cf.adam_coasting_factor(k, t0, 0.9, 0.999) + 0 * u[t0:], 1e-12
    )


def test_oracle_29_limits_are_simpler_methods():
    g = normal(50, 5)
    np.testing.assert_array_equal(steps(adam(0.1, 0.0, 0.0), g), -(0.1 * (g / (np.abs(g) + 1e-8))))
    np.testing.assert_array_equal(steps(sgd(0.1, 0.0), g), steps(sgd(0.1), g))
    # RMSProp whose decay is 1 - 1/t keeps the mean of all squares; AdaGrad keeps their sum.
    t = np.arange(1, 51)[:, None]
    mean = scale_by_rms(lambda count: 1.0 - 1.0 / (count + 1.0), eps=0.0)
    assert_allclose(steps(mean, g), np.sqrt(t) * steps(scale_by_adagrad(0.0, 0.0), g), 1e-13)


@pytest.mark.parametrize(("recipe", "end"), [(adam, 1.0), (amsgrad, -1.0)])
def test_oracle_30_reddis_sequence_leads_adam_to_the_worst_point(recipe, end):
    tx = recipe(lambda count: 0.5 / jnp.sqrt(1.0 + count), 0.0, 1 / 10, eps=0.0)
    with jax.enable_x64(True):

        def body(carry, g):
            x, state = carry
            updates, state = tx.update(g, state)
            return (jnp.clip(x + updates, -1.0, 1.0), state), None

        x = jnp.zeros(1)
        rows = jnp.asarray(cf.reddi_gradients(30_000))
        (x, _), _ = jax.jit(lambda: jax.lax.scan(body, (x, tx.init(x)), rows))()
    assert_allclose(x, end, atol=0.02)


# --- Decay ----------------------------------------------------------------------------------------


def test_oracle_31_decay_alone_is_a_product():
    theta = normal(4)
    _, after = run(adamw(cosine, weight_decay=0.3), np.zeros((60, 4)), theta)
    rates = 0.01 * (1 + np.cos(np.pi * np.arange(60) / 60))
    assert_allclose(after[-1], cf.decayed(theta, rates, 0.3), 1e-13)
    _, after = run(
        adamw(0.1, schedule=cosine, weight_decay=0.3, decay_mode="schedule"),
        np.zeros((60, 4)),
        theta,
    )
    assert_allclose(after[-1], cf.decayed(theta, rates, 0.3), 1e-13)
    _, after = run(adamw(0.1, weight_decay=0.3, decay_mode="absolute"), np.zeros((60, 4)), theta)
    assert_allclose(after[-1], cf.decayed(theta, np.ones(60), 0.3), 1e-13)


def test_oracle_32_a_penalty_is_a_decay_for_sgd_and_not_for_others():
    def end(tx):
        return run(tx, quadratic, ONES, 50)[1][-1]

    def decayed(momentum):
        l2 = sgd(0.005, momentum, weight_decay=0.5)
        return end(l2) - end(sgd(0.005, momentum, weight_decay=0.5, decoupled=True))

    assert_allclose(decayed(None), 0, atol=1e-15)
    assert np.max(np.abs(decayed(0.9))) > 1e-3
    # Adam makes of the penalty what it makes of any gradient: steps of the rate, whatever lambda.
    for weight_decay in (1e-4, 1e-2, 1.0):
        _, theta = run(adam(0.01, weight_decay=weight_decay), np.zeros((50, 1)), np.array([5.0]))
        assert_allclose(theta[-1], 5.0 - 50 * 0.01, atol=1e-2)
    _, theta = run(adamw(0.01, weight_decay=1.0), np.zeros((50, 1)), np.array([5.0]))
    assert_allclose(theta[-1], 5.0 * 0.99**50, 1e-13)


def test_oracle_33_a_sum_over_the_batch_is_a_larger_rate_or_nothing():
    g, size = normal(40, 5), 8.0
    np.testing.assert_array_equal(steps(sgd(0.125), size * g), steps(sgd(size * 0.125), g))
    np.testing.assert_array_equal(steps(adam(0.1, eps=0.0), size * g), steps(adam(0.1, eps=0.0), g))


@pytest.mark.parametrize("b", [None, 0.5, 0.9])
def test_oracle_34_noise_floor_on_a_quadratic(b):
    lr, curvature = 0.02, 7.0
    a, noise = step_matrix(sgd(lr, b), curvature)
    # The variance that a step leaves as it is: V = A V A^T + B B^T.
    n = len(a)
    vec = np.linalg.solve(np.eye(n * n) - np.kron(a, a), np.outer(noise, noise).ravel())
    assert_allclose(vec[0], cf.stationary_variance(lr, b or 0.0, curvature, 1.0), 1e-11)
    rows = normal(400, 4000)
    _, theta = run(_noisy(lr, b, curvature), rows, np.zeros(4000))
    assert_allclose(theta[-1].var(), vec[0], 0.1)


def _noisy(lr, b, curvature):
    """Gradients given as noise; the loss's own part is an L2 penalty of its curvature."""
    return sgd(lr, b, weight_decay=curvature)


# --- Muon -----------------------------------------------------------------------------------------


def orthogonalized(x, coefficients=KELLER, steps=5, dtype="float64"):
    with jax.enable_x64(dtype == "float64"):
        return np.asarray(newton_schulz(jnp.asarray(x, dtype), coefficients, steps=steps))


@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_oracle_35_newton_schulz_acts_on_singular_values_alone(shape):
    x = normal(*shape)
    want = cf.newton_schulz_by_svd(x, eps=0.0)
    assert_allclose(orthogonalized(x), want, rtol=0, atol=2e-13)
    narrow = orthogonalized(x, dtype="float32")
    assert np.linalg.norm(narrow - want) < 3e-6 * np.linalg.norm(want)


def test_oracle_36_convergent_coefficients_give_the_polar_factor():
    x = normal(8, 5)
    assert_allclose(
        orthogonalized(x, (15 / 8, -10 / 8, 3 / 8), 20), polar_factor(x), rtol=0, atol=1e-14
    )


def test_oracle_37_what_the_iteration_makes_of_special_matrices():
    x = normal(8, 5)
    u = polar_factor(x)
    assert_allclose(np.sum(x * u), np.linalg.norm(x, "nuc"), 1e-12)
    assert_allclose(np.sum(u**2), 5, 1e-12)
    np.testing.assert_array_equal(orthogonalized(-x), -orthogonalized(x))
    np.testing.assert_array_equal(orthogonalized(x.T), orthogonalized(x).T)
    np.testing.assert_array_equal(orthogonalized(0 * x), 0 * x)
    one = np.outer(x[:, 0], x[0])
    sigma = np.linalg.svd(orthogonalized(one), compute_uv=False)
    assert_allclose(sigma, [0.696436, 0, 0, 0, 0], atol=1e-6)
    assert_allclose(np.linalg.svd(orthogonalized(rotation(16)), compute_uv=False), 0.714526, 1e-6)
    assert_allclose(np.linalg.norm(orthogonalized(normal(1, 9))), 0.6964, 1e-4)


@pytest.mark.parametrize("scale_of_gradients", [1.0, 1e-3, 1e-8, 1e-20])
def test_oracle_38_muons_average_and_heavy_ball_are_one_method(scale_of_gradients):
    def tx(form):
        return chain(
            scale_by_momentum(0.9, form, nesterov=True),
            orthogonalize_newton_schulz(),
        )

    g = normal(20, 6, 4)
    u = steps(tx("ema"), g)
    # The norm has no epsilon to add, so that no size is too small.
    assert_allclose(steps(tx("heavy_ball"), scale_of_gradients * g), u, rtol=0, atol=1e-11)


# --- Counts, derivatives, memory ------------------------------------------------------------------


def test_oracle_39_schedules_start_at_0_and_corrections_at_1():
    u = steps(adam(lambda count: 1.0 * count, eps=0.0), np.full((6, 1), 3.0))
    assert_allclose(u[:, 0], -np.arange(6.0), 1e-13)


def test_oracle_40_the_derivative_of_the_first_step_is_finite_at_zero():
    g = np.array([0.0, 1e-9, 1e-8, -1e-6, 0.5])
    with jax.enable_x64(True):
        tx = adam(1.0)

        def first(g):
            return tx.update(g, tx.init(g))[0]

        slope = jnp.diagonal(jax.jacobian(first)(jnp.asarray(g)))
    assert_allclose(slope, cf.adam_first_step_derivative(g, 1e-8), 1e-9, 1e-15)


def test_oracle_41_adam_forgets_a_spike_when_its_average_does():
    spike, b2 = 1e6, 0.999
    g = np.ones((21_000, 1))
    g[0] = spike
    size = np.abs(steps(adam(1.0, b2=b2, eps=0.0), g))[:, 0]
    k = np.flatnonzero(size[100:] > 0.5)[0] + 100
    assert abs(k - cf.adam_spike_recovery(spike, b2)) < 3
    assert_allclose(size[1:].min(), 1.3e-5, atol=2e-6)


def test_oracle_42_composition_is_associative_and_compiles_to_the_same():
    a, b, c = scale_by_momentum(), scale_by_rms(), scale_by_learning_rate(0.1)
    g = normal(20, 5).astype("f4")
    with jax.enable_x64(False):
        u = steps(chain(a, b, c), g, dtype="float32")
        for same in (
            chain(chain(a, b), c),
            chain(a, chain(b, c)),
            chain(identity(), a, b, identity(), c),
        ):
            np.testing.assert_array_equal(steps(same, g, dtype="float32"), u)
        halves = steps(chain(scale(0.5), scale(0.25)), g, dtype="float32")
        np.testing.assert_array_equal(halves, steps(scale(0.125), g, dtype="float32"))
        # `steps` is a compiled scan; this is a loop, eager.
        tx = adam(1.0)
        state, loop = tx.init(jnp.asarray(g[0])), []
        for row in g:
            out, state = tx.update(jnp.asarray(row), state)
            loop.append(out)
    assert_allclose(loop, steps(tx, g, dtype="float32"), rtol=0, atol=5e-7)


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 2.0**8), ("float16", 2.0**11)])
def test_oracle_43_a_sum_of_ones_stops_where_its_dtype_does(dtype, limit):
    start = limit - 20
    g = np.ones((40, 1))
    narrow = steps(sum_of_squares(start, accumulator_dtype=dtype), g, dtype="float32")
    # What comes out is the sum before it is rounded into the state, which stays at the limit.
    assert narrow[-1] == narrow[-15] == limit + 1
    # Unasked, the accumulator is float32, whatever the parameters.
    assert steps(sum_of_squares(start), g, dtype="float32")[-1] == limit + 20
    with jax.enable_x64(False):
        assert sum_of_squares().init(jnp.ones(3, dtype)).sum_of_squares.dtype == jnp.float32
        wide = sum_of_squares(2.0**24 - 2)
        assert steps(wide, np.ones((9, 1)), dtype="float32")[-1] == 2.0**24


@pytest.mark.parametrize(("b2", "most"), [(0.999, 2e-6), (0.9999, 5e-6)])
def test_oracle_44_a_hundred_thousand_float32_steps_stay_near_float64(b2, most):
    g = normal(100_000, 8).astype("f4")
    wide = steps(adam(1.0, b2=b2), g)
    assert np.max(np.abs(steps(adam(1.0, b2=b2), g, dtype="float32") - wide)) < most

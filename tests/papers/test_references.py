"""The references against Optax in float64 where the convention is the same, and against each other.

All optimizers of Optax run side by side in one program, which compiles once.
"""

from functools import partial

import closed_forms as cf
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import references as ref
from rounding import roundings

RNG = np.random.default_rng(0)
THETA = RNG.normal(size=(4, 3))
SLOPE = RNG.normal(size=(4, 4))
STEPS = 50


def gradient(theta):
    """Of a smooth loss that is not convex, at a point of NumPy or of JAX."""
    tanh = np.tanh if isinstance(theta, np.ndarray) else jnp.tanh
    return SLOPE @ tanh(SLOPE.T @ theta) + 0.3 * theta


def falling(count):
    return 0.1 / (1 + count)


def rising(count):
    return 1e-3 * (1 + count)


# What two runs may differ by, relative to the largest number: twenty roundings per step in both of them,
# and the first corrections, which subtract 0.999 from 1 and are off by 1 / (1 - 0.999) roundings. The
# loop is closed: what a step is off by changes the next gradient.
CLOSED_LOOP = roundings(2 * 20 * STEPS + 2 / (1 - 0.999))
# Some formula with fewer than fifty roundings, on either side.
ONE_FORMULA = roundings(100)


def gap(a, b):
    """The largest difference, relative to the largest element of all."""
    return np.max(np.abs(np.subtract(a, b))) / np.max(np.abs(a))


CASES = {
    "sgd": (ref.sgd, {"lr": falling}, optax.sgd(falling)),
    "sgd_l2": (
        partial(ref.sgd, weight_decay=0.2),
        {"lr": 0.1},
        optax.chain(optax.add_decayed_weights(0.2), optax.sgd(0.1)),
    ),
    "ema": (
        ref.ema_momentum,
        {"lr": falling, "b": 0.8},
        optax.chain(optax.ema(0.8, debias=False), optax.scale_by_learning_rate(falling)),
    ),
    "heavy_ball": (ref.heavy_ball, {"lr": falling}, optax.sgd(falling, momentum=0.9)),
    "heavy_ball_inside": (
        ref.heavy_ball_inside,
        {"lr": falling},
        optax.chain(optax.scale_by_learning_rate(falling), optax.trace(0.9)),
    ),
    "sgd_torch": (
        ref.sgd_torch,
        {"lr": falling, "nesterov": True},
        optax.sgd(falling, momentum=0.9, nesterov=True),
    ),
    "nesterov": (ref.nesterov, {"lr": rising}, optax.sgd(rising, momentum=0.9, nesterov=True)),
    "nesterov_inside": (
        ref.nesterov_inside,
        {"lr": rising},
        optax.chain(optax.scale_by_learning_rate(rising), optax.trace(0.9, nesterov=True)),
    ),
    "adagrad": (ref.adagrad_optax, {"lr": 0.1}, optax.adagrad(0.1)),
    "rmsprop": (ref.rmsprop_optax, {"lr": falling}, optax.rmsprop(falling)),
    "rmsprop_nesterov": (
        ref.rmsprop_optax,
        {"lr": falling, "initial": 1.0, "momentum": 0.8, "nesterov": True},
        optax.rmsprop(falling, initial_scale=1.0, momentum=0.8, nesterov=True),
    ),
    "rmsprop_outside": (
        ref.rmsprop,
        {"lr": 0.01, "eps": 1e-8, "eps_in_sqrt": False, "debias": True},
        optax.rmsprop(0.01, eps_in_sqrt=False, bias_correction=True),
    ),
    "rmsprop_torch": (
        partial(ref.rmsprop_torch, momentum=0.9),
        {"lr": rising},
        optax.chain(
            optax.scale_by_rms(0.99, 1e-8, eps_in_sqrt=False),
            optax.trace(0.9),
            optax.scale_by_learning_rate(rising),
        ),
    ),
    "rmsprop_graves": (
        ref.rmsprop_graves,
        {"lr": 1e-2},
        optax.rmsprop(1e-2, decay=0.95, eps=1e-4, centered=True, momentum=0.9),
    ),
    "adadelta": (
        ref.adadelta_optax,
        {"lr": 0.5, "weight_decay": 0.1},
        optax.adadelta(0.5, weight_decay=0.1),
    ),
    "adam": (ref.adam, {"lr": falling, "eps_root": 1e-4}, optax.adam(falling, eps_root=1e-4)),
    "adamd": (
        ref.adamd,
        {"lr": 0.01},
        optax.chain(optax.adam(0.01), optax.scale_by_schedule(lambda c: 1 - 0.9 ** (c + 1))),
    ),
    "amsgrad": (ref.amsgrad_optax, {"lr": 0.1}, optax.amsgrad(0.1)),
    "amsgrad_paper": (
        ref.amsgrad_paper,
        {"lr": 0.1, "b2": 0.9},
        optax.chain(
            optax.scale_by_amsgrad(
                b2=0.9, eps=0.0, bias_correction_mu=False, bias_correction_nu=False
            ),
            optax.scale_by_learning_rate(0.1),
        ),
    ),
    "nadam": (ref.nadam, {"lr": 0.01, "eps_root": 1e-6}, optax.nadam(0.01, eps_root=1e-6)),
    "nadamw": (ref.nadamw, {"lr": falling}, optax.nadamw(falling)),
    # Dozat's mu_t at the end of its warming is b1.
    "nadam_torch": (
        partial(ref.nadam_torch, momentum_decay=1e6, decoupled=True),
        {"lr": falling, "weight_decay": 0.1},
        optax.nadamw(falling, weight_decay=0.1),
    ),
    # Adam's eps is an eps-hat that grows by the correction of v; shrinking first is the same sum.
    "adam_eps_hat": (
        ref.adam_eps_hat,
        {"lr": 0.01, "weight_decay": 0.1, "eps": lambda c: 1e-3 * np.sqrt(1 - 0.999 ** (c + 1))},
        optax.adamw(0.01, eps=1e-3, weight_decay=0.1),
    ),
    "adamw": (ref.adamw_optax, {"lr": falling}, optax.adamw(falling)),
    "adamw_schedule": (
        partial(ref.adamw, decay="schedule"),
        {"lr": 0.01, "schedule": falling, "weight_decay": 0.1},
        optax.chain(
            optax.scale_by_adam(),
            optax.scale(0.01),
            optax.add_decayed_weights(0.1),
            optax.scale_by_learning_rate(falling),
        ),
    ),
    "adamw_absolute": (
        partial(ref.adamw, decay="absolute"),
        {"lr": 0.01, "weight_decay": 0.05},
        optax.chain(optax.adam(0.01), optax.add_decayed_weights(-0.05)),
    ),
    "laprop": (
        ref.laprop,
        {"lr": 0.01, "eps": 1e-8},
        optax.chain(
            optax.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False, bias_correction=True),
            optax.ema(0.9, debias=True),
            optax.scale_by_learning_rate(0.01),
        ),
    ),
    "muon": (
        ref.muon_optax,
        {"lr": 0.02, "weight_decay": 0.1},
        optax.contrib.muon(0.02, weight_decay=0.1),
    ),
}


def test_a_reference_is_optax_where_the_convention_is_the_same():
    txs = [tx for _, _, tx in CASES.values()]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # as Optax needs

        def body(carry, _):
            after, seen = [], []
            for tx, (params, state) in zip(txs, carry, strict=True):
                updates, state = tx.update(gradient(params), state, params)
                after.append((optax.apply_updates(params, updates), state))
                seen.append(updates)
            return after, seen

        params = jnp.asarray(THETA)
        start = [(params, tx.init(params)) for tx in txs]
        updates = jax.jit(lambda start: jax.lax.scan(body, start, length=STEPS)[1])(start)
    wide = {}
    for (name, (system, hyper, _)), u in zip(CASES.items(), updates, strict=True):
        difference = gap(u, system(gradient, THETA, steps=STEPS, **hyper))
        if not difference < CLOSED_LOOP:
            wide[name] = difference
    assert not wide


def test_the_clips_are_those_of_optax():
    shapes = [(120,), (6, 20), (4, 5, 6), (2, 3, 4, 5), (1, 2, 3, 4, 5), (1, 120)]
    theirs = [
        optax.clip(0.5),
        optax.clip_by_global_norm(3.0),
        optax.clip_by_block_rms(0.2),
        optax.adaptive_grad_clip(0.01),
    ]

    @jax.jit
    def clipped(a, b):
        return [
            [tx.update(x, tx.init(y), y)[0] for tx in theirs] for x, y in zip(a, b, strict=True)
        ]

    for scale in (0.1, 1e3):
        g, x = scale * RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 3, 4, 5))
        pairs = [(g.reshape(shape), x.reshape(shape)) for shape in shapes]
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            results = clipped(
                *(list(map(jnp.asarray, column)) for column in zip(*pairs, strict=True))
            )
        for (a, b), updates in zip(pairs, results, strict=True):
            ours = [
                cf.clip_by_value(a, 0.5),
                cf.clip_by_global_norm([a], 3.0)[0],
                cf.clip_by_block_rms(a, 0.2),
                cf.clip_adaptive(a, b, 0.01),
            ]
            for u, want in zip(updates, ours, strict=True):
                # Norms are sums of up to 120 squares.
                assert gap(want, u) < roundings(120)


def moving(system, **hyper):
    return ref.iterates(THETA, system(gradient, THETA, steps=STEPS, **hyper))


def test_the_forms_of_momentum_coincide_where_they_should_and_only_there():
    ema = moving(ref.ema_momentum, lr=rising)
    assert gap(ema, moving(ref.heavy_ball, lr=lambda c: 0.1 * rising(c))) < CLOSED_LOOP
    # At this rate the loop is not stable: what a step is off by is magnified.
    assert gap(moving(ref.heavy_ball), moving(ref.heavy_ball_inside)) < 100 * CLOSED_LOOP
    outside = moving(ref.heavy_ball, lr=rising)
    assert gap(outside, moving(ref.heavy_ball_inside, lr=rising)) > 1e-3
    gs = [np.ones(1)] * 9
    torch = ref.sgd_torch(gs, 0.0, lr=1.0, dampening=0.9)
    start = 0.9 ** np.arange(1, 10)[:, None]
    assert gap(np.subtract(ref.ema_momentum(gs, 0.0, lr=1.0), torch), start) < ONE_FORMULA


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_nesterov_shifted_is_the_look_ahead(gain):
    def shift(theta, lr, b=0.9):
        """phi = theta - lr b m, for the update before was -lr m."""
        steps = np.diff([THETA, *theta], axis=0)
        return (
            theta + b * steps * np.array([lr(t + 1) / lr(t) for t in range(STEPS)])[:, None, None]
        )

    theta = moving(ref.lookahead, lr=rising, gain=gain)
    exact = moving(ref.nesterov, lr=rising, gain=gain, exact=True)
    assert gap(shift(theta, rising), exact) < CLOSED_LOOP
    assert gap(exact, moving(ref.nesterov, lr=rising, gain=gain)) > 1e-4
    theta, phi = moving(ref.lookahead_inside, lr=rising), moving(ref.nesterov_inside, lr=rising)
    assert gap(shift(theta, lambda t: 1.0), phi) < CLOSED_LOOP


def test_full_matrix_adagrad_turns_with_its_gradients():
    q = np.linalg.qr(SLOPE)[0]
    gs = list(RNG.normal(size=(6, 4)))
    u = ref.adagrad_full(gs, np.zeros(4))
    # An eigenvalue is off by some roundings of the largest one, and divides.
    values = np.linalg.eigvalsh(np.cumsum([np.outer(g, g) for g in gs], 0))
    condition = np.max(values[:, -1:] / np.where(values > 1e-12 * values[:, -1:], values, np.inf))
    turned = ref.adagrad_full([q @ g for g in gs], np.zeros(4))
    assert gap(turned, [q @ a for a in u]) < ONE_FORMULA * condition
    assert gap(u[0], -0.1 * gs[0] / np.linalg.norm(gs[0])) < ONE_FORMULA
    one = [g[:1] for g in gs]
    assert gap(ref.adagrad_full(one, np.zeros(1)), ref.adagrad(one, np.zeros(1))) < ONE_FORMULA


def test_the_quadratic_forms():
    def errors(system, curvature, **hyper):
        return np.array(ref.iterates(1.0, system(lambda x: curvature * x, 1.0, steps=30, **hyper)))

    t, mu, L = np.arange(1, 31), 1.0, 100.0
    lr, b, z = cf.heavy_ball_best(mu, L)
    # Eight roundings per step of numbers up to lr L, which double roots z magnify by 1 / (1 - z)^2.
    error = roundings(8 * lr * L / (1 - z) ** 2)
    for c in (3.0, 50.0):
        assert gap(cf.heavy_ball_error(t, lr, b, c), errors(ref.heavy_ball, c, lr=lr, b=b)) < error
    for c, root in ((mu, z), (L, -z)):
        double = cf.heavy_ball_error_double_root(t, root)
        assert gap(double, errors(ref.heavy_ball, c, lr=lr, b=b)) < error
    assert abs(2 * np.pi / cf.heavy_ball_angle(lr, b, 3.0) - 22.028) < 5e-4
    lr, rate = cf.gd_best(mu, L)
    assert gap(cf.gd_error(t, lr, L), errors(ref.sgd, L, lr=lr)) < roundings(2 * 4 * 2 * 30)
    assert abs(1 - lr * mu - rate) < roundings(8)
    lr, b, rate = cf.nesterov_best(mu, L)
    # A double root: the square root of what its discriminant is off by remains.
    error = np.sqrt(roundings(20))
    assert abs(cf.nesterov_rate(lr, b, np.linspace(mu, L, 1000)) - rate) < error


def test_the_stationary_variance_solves_its_lyapunov_equation():
    lr, b, c, noise = 0.3, 0.6, 1.7, 2.0
    A = np.array([[1 + b - lr * c, -b], [1.0, 0.0]])  # of (theta_t, theta_t-1)
    P = np.zeros((2, 2))
    for _ in range(500):
        P = A @ P @ A.T + np.diag([lr**2 * noise, 0.0])
    assert abs(P[0, 0] / cf.stationary_variance(lr, b, c, noise) - 1) < roundings(20 / (1 - b) ** 2)


def test_decay_and_its_cautious_forms():
    still, x, u = np.zeros(3), np.array([1.0, -2.0, 3.0]), np.array([0.5, 1.0, -1.0])
    shrunk = ref.iterates(x, ref.adamw([still] * 9, x, lr=falling, weight_decay=0.5))[-1]
    assert gap(shrunk, cf.decayed(x, [falling(c) for c in range(9)], 0.5)) < ONE_FORMULA
    assert np.array_equal(ref.aligned(u, x), [True, False, False])
    assert np.array_equal(ref.cautious(u, x), [1.5, 0.0, 0.0])


def test_the_closed_forms_of_averages_and_adaptive_steps():
    t, ones = np.arange(1, 301), [np.ones(1)] * 300

    def lengths(system, gs=ones, **hyper):
        return -np.ravel(system(gs, np.zeros(1), lr=1.0, **hyper))

    # Three roundings per step, for 1 / (1 - b) steps, and a closed form that divides by 1 - b.
    averaged = roundings(10 / (1 - 0.9))
    assert gap(cf.ema_gain(t, 0.9), lengths(ref.ema_momentum)) < averaged
    assert gap(cf.heavy_ball_gain(t, 0.9), lengths(ref.heavy_ball)) < averaged
    ramp = [np.array([float(k)]) for k in t]
    assert gap(cf.ema_of_ramp(t, 0.9), lengths(ref.ema_momentum, ramp)) < averaged
    w = cf.debiased_weights(40, 0.9)
    assert abs(w.sum() - 1) < ONE_FORMULA
    assert abs((w**2).sum() - cf.ema_variance(40, 0.9, True)) < ONE_FORMULA
    steps = lengths(ref.adagrad)
    low, high = cf.adagrad_displacement_bounds(300)
    assert gap(cf.adagrad_constant_step(t), steps) < roundings(300)
    assert low <= steps.sum() <= high
    assert gap(cf.rmsprop_constant_step(t, 0.9), lengths(ref.rmsprop)) < averaged
    ten = ref.adadelta([np.full(1, 10.0)] * 500, 0.0, rho=0.9)[-1] / cf.adadelta_growth(
        500, 0.9, 1e-6
    )
    assert (
        abs(cf.adadelta_first_step(1.0, 0.95, 1e-6) + lengths(ref.adadelta)[0]) < ONE_FORMULA * 1e-3
    )
    assert abs(ten[0] + 1.100) < 1e-3
    gs = list(RNG.normal(size=(60, 2)))
    first, second = cf.adagrad_lemma(gs)
    assert np.all(first <= second)
    mean, square = (np.array(ref.ema_momentum([f(g) for g in gs], gs[0], lr=-1.0)[-1])
                    for f in (np.array, np.square))  # fmt: skip
    assert gap(square - mean**2, cf.centered_variance(gs, 0.9)) < averaged * np.max(
        square / (square - mean**2)
    )


def test_the_closed_forms_of_adam():
    def lengths(gs, eps=0.0, system=ref.adam, **hyper):
        return -np.ravel(system([np.array([g]) for g in gs], np.zeros(1), lr=1.0, eps=eps, **hyper))

    # The corrections subtract 0.999^t from 1, which is off by 1 / (1 - 0.999) roundings.
    corrected = roundings(3 * 40 + 2 / (1 - 0.999))
    assert gap(cf.adam_first_step(0.3, 0.1), -lengths([0.3], 0.1)) < corrected
    hat = cf.adam_first_step_eps_hat(0.3, 0.999, 0.1)
    assert gap(hat, -lengths([0.3], 0.1, ref.adam_eps_hat)) < corrected
    # Of a difference quotient, whose own error is the curvature times 1e-7.
    slope = (cf.adam_first_step(1e-7, 0.1) - cf.adam_first_step(-1e-7, 0.1)) / 2e-7
    assert abs(slope - cf.adam_first_step_derivative(0.0, 0.1)) < 1e-4
    factor = cf.adam_uncorrected_factor(np.arange(1, 100), 0.9, 0.999)
    assert factor.argmax() + 1 == 12 and abs(factor.max() - 6.57) < 5e-3
    worst = lengths(cf.adam_worst_gradients(40, 0.9, 0.999))
    assert abs(worst[-1] / cf.adam_step_bound(40, 0.9, 0.999) - 1) < corrected
    coast = lengths([0.3, -1.0, 2.0, 0.0, 0.0, 0.0])
    assert abs(coast[5] / coast[2] / cf.adam_coasting_factor(3, 3, 0.9, 0.999) - 1) < corrected
    spike = np.flatnonzero(np.abs(lengths([1e3] + [1.0] * 9000)) < 0.5)[-1]
    assert abs(spike - cf.adam_spike_recovery(1e3, 0.999)) < 30


def test_newton_schulz_maps_singular_values_and_tends_to_the_polar_factor():
    # A product has as many roundings as terms. The slope of five steps at zero magnifies the roundings
    # of the first steps, and the condition of the matrix those of a convergent iteration.
    error = roundings(4 * ref.KELLER[0] ** 5)
    condition = np.linalg.cond(THETA)
    for x in (THETA, THETA.T):
        assert gap(cf.newton_schulz_by_svd(x), ref.orthogonalize(x)) < error
        convergent = ref.orthogonalize(x, (15 / 8, -10 / 8, 3 / 8), 20)
        assert gap(ref.polar_factor(x), convergent) < roundings(15 * 4) * condition
    stack = np.stack([THETA, 2 * THETA])
    assert gap(ref.orthogonalize(stack)[1], ref.orthogonalize(2 * THETA)) < error
    assert np.linalg.matrix_rank(ref.polar_factor(np.ones((3, 3)))) == 1


def test_the_variants_of_muon_are_muon_where_their_own_part_is_idle():
    one = {"gradients": gradient, "params0": THETA, "steps": 5}
    plain = ref.muon(**one, lr=0.02)
    # What differs is where an epsilon of 1e-7 or 1e-8 is added to norms, not rounding.
    assert gap(plain, ref.muon(**one, lr=0.02, clamp=True)) < 1e-5
    assert gap(plain, ref.muon(**one, lr=0.02, classical=True)) < 1e-5
    # Rows that are equally long already: an orthogonal gradient.
    q = {"gradients": [np.linalg.qr(SLOPE)[0]], "params0": SLOPE}
    assert gap(ref.muon(**q), ref.muon(**q, equilibrate=True)) < 1e-5
    assert gap(ref.muon(**q), ref.normuon(**q)) < 1e-7
    assert gap(ref.scion(**q, constrained=False, radius=1.0, lr=0.02), ref.muon(**q)) < 1e-5
    rms = np.sqrt(np.mean(ref.adamuon(**q, weight_decay=0.0)[0] ** 2))
    assert abs(rms - 0.2 * 0.02) < 1e-9
    wq, wk = cf.qk_clip(np.ones((2, 1, 1)), np.ones((2, 1, 1)), np.array([400.0, 50.0]))
    assert np.allclose(wq * wk, np.array([0.25, 1.0])[:, None, None], rtol=ONE_FORMULA)

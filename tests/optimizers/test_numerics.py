"""What the numbers of every optimizer do: over many steps, at the ends of the number line, at zero.

All optimizers run side by side in one program, so that it is compiled once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rounding import roundings
from runs import steps_of

from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    cautious,
    chain,
    clip,
    constant_schedule,
    fanout,
    fromage,
    identity,
    muon,
    nadam,
    nadamw,
    rmsprop,
    scale,
    scale_by_full_matrix_adagrad,
    scale_by_learning_rate,
    scale_by_momentum,
    scale_by_rprop,
    scale_by_sign,
    sgd,
)  # fmt: skip

# Their updates are sums of gradients, which overflow as sums do.
LINEAR = {
    "sgd": sgd(0.1),
    "momentum": chain(scale_by_momentum(0.9), scale_by_learning_rate(0.1)),
    "heavy_ball": sgd(0.1, 0.9),
    "heavy_ball_torch": sgd(0.1, 0.9, dampening=0.5),
    "heavy_ball_keras": sgd(0.1, 0.9, convention="keras"),
    "nesterov": sgd(0.1, 0.9, nesterov=True),
}
ADAPTIVE = {
    "adagrad": adagrad(0.1),
    "adagrad_torch": adagrad(0.1, convention="torch"),
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
}
MATRICES = {
    "adagrad_full": chain(scale_by_full_matrix_adagrad(), scale_by_learning_rate(0.1)),
    "muon": muon(0.1),
}
SYSTEMS = LINEAR | ADAPTIVE | MATRICES
SHAPES = {"w": (4, 3), "b": (3,)}


def filled(value):
    return {name: jnp.full(shape, value, "float32") for name, shape in SHAPES.items()}


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


def states_of(systems, params):
    return {name: tx.init(params) for name, tx in systems.items()}


@jax.jit
def jitted(g, states, params):
    """One step of all systems: {name: updates}, {name: state} for one tree of gradients."""
    both = {name: tx.update(g, states[name], params) for name, tx in SYSTEMS.items()}
    return {k: u for k, (u, _) in both.items()}, {k: s for k, (_, s) in both.items()}


@pytest.fixture(scope="module")
def step():
    """`jitted`, compiled once, also where the caches are cleared between tests."""
    params = filled(0.0)
    return jitted.lower(params, states_of(SYSTEMS, params), params).compile()


# The largest error over all steps, relative to the largest step, in roundings of float32. An average
# remembers up to 1000 steps of three roundings each, and its root takes half of them. They have any
# sign, so that what they sum to is about as large as the root of their number: three times that root.
MOST = 3 * np.sqrt(3 * 1000 / 2)


@pytest.mark.parametrize(
    ("systems", "shape", "most"),
    [
        (LINEAR | ADAPTIVE, (20_000, 4), MOST),
        # It divides by the smallest eigenvalue of its matrix.
        ({"adagrad_full": MATRICES["adagrad_full"]}, (400, 4), 4 * MOST),
        # Its iteration magnifies what is off in small singular values.
        ({"muon": MATRICES["muon"]}, (100, 4, 3), 4 * MOST),
    ],
    ids=["elementwise", "adagrad_full", "muon"],
)
def test_float32_stays_with_float64_over_many_steps(systems, shape, most):
    g = np.random.default_rng(0).normal(size=shape).astype("f4")
    wide, narrow = (steps_of(systems, g, dtype=dtype) for dtype in ("float64", "float32"))
    for name in systems:
        error = np.max(np.abs(narrow[name] - wide[name])) / np.max(np.abs(wide[name]))
        # AdaDelta's steps feed on themselves.
        assert error < roundings(4 * most if name == "adadelta" else most, "float32"), name


def test_a_gradient_that_is_not_finite_shows_in_every_update(step):
    params = filled(0.0)
    for bad in (np.nan, np.inf, -np.inf):
        updates, _ = step(filled(bad), states_of(SYSTEMS, params), params)
        for name, update in updates.items():
            shown = [not np.any(np.isfinite(x)) for x in jax.tree.leaves(update)]
            assert all(shown), (name, bad)


def test_a_gradient_whose_square_overflows_freezes_nothing(step):
    params = filled(0.0)
    for size in (1e19, 1e25, 3e38):
        systems = SYSTEMS if size < 1e30 else ADAPTIVE | MATRICES
        updates, states = step(filled(size), states_of(SYSTEMS, params), params)
        for name in systems:
            largest = max(np.max(np.abs(x)) for x in jax.tree.leaves(updates[name]))
            assert finite((updates[name], states[name])), (name, size)
            assert name in LINEAR or largest < 2, (name, size)
        for value in (1.0, -1.0, 1e10):
            updates, states = step(filled(value), states, params)
            for name in systems:
                assert finite((updates[name], states[name])), (name, size, value)
                assert all(np.all(x) for x in jax.tree.leaves(updates[name])), (name, size, value)


def test_a_gradient_of_float0_moves_nothing():
    params = filled(0.0)
    g = {**filled(1.0), "b": np.zeros(3, jax.dtypes.float0)}
    updates, _ = jitted(g, states_of(SYSTEMS, params), params)
    for name, update in updates.items():
        assert not np.any(update["b"]) and np.all(update["w"]), name


def test_the_derivative_of_a_step_by_a_zero_gradient_is_finite():
    with jax.enable_x64(True):
        params = jnp.zeros(SHAPES["w"])

        @jax.jit
        def slopes(params):
            def total(tx, g, state):
                updates, new = tx.update(g, state, params)
                return jnp.sum(updates), new

            out = {}
            for name, tx in SYSTEMS.items():
                slope = jax.grad(lambda g, state, tx=tx: total(tx, g, state), has_aux=True)
                first, state = slope(params, tx.init(params))
                out[name] = first, slope(params, state)[0]
            return out

        for name, slope in slopes(params).items():
            assert finite(slope), name
            # Where there is no matrix to divide by, it is that of a step: not zero either.
            assert name in MATRICES or all(np.all(x != 0) for x in slope), name


def test_counts_stay_at_the_largest(step):
    params, last = filled(0.0), np.iinfo("i4").max

    def late(x):
        return jnp.full_like(x, last) if x.dtype == jnp.int32 else x

    states = jax.tree.map(late, states_of(SYSTEMS, params))
    for _ in range(2):
        updates, states = step(filled(1.0), states, params)
        for name in SYSTEMS:
            assert finite((updates[name], states[name])), name
    counts = [x for x in jax.tree.leaves(states) if x.dtype == jnp.int32]
    assert len(counts) > 10 and all(int(x) == last for x in counts)


@pytest.mark.parametrize(
    "tx",
    [
        clip(1.0),
        chain(scale(1e8), clip(1.0)),
        chain(identity() / fanout("maximum", identity() * 0, 1e-8), clip(1.0)),
        scale_by_sign(),
        chain(fanout("arctan2", identity(), 0.0), scale(2 / np.pi)),
        chain(cautious(identity()), scale_by_sign()),
        scale_by_rprop(1.0),
    ],
    ids=str,
)
def test_a_complex_entry_keeps_its_direction_where_its_absolute_value_overflows(tx):
    """The absolute value of finite parts may overflow, and so may a part where it is multiplied."""
    g = jnp.array([3e38 + 3e38j, 3e38j, -3e38 + 1e30j], "complex64")
    want = [0.5**0.5 * (1 + 1j), 1j, -1]
    for update in (tx.update, jax.jit(tx.update)):
        np.testing.assert_allclose(update(g, tx.init(g), g)[0], want, rtol=0, atol=1e-6)


def test_fromage_shrinks_by_an_exact_factor_at_a_small_rate_that_is_a_schedule():
    """The factor 1 / root(1 + rate^2) is nearly 1, so a difference from 1 would have few digits."""
    rate, x = 1e-4, jnp.ones(3)
    tx = fromage(constant_schedule(rate))
    updates, _ = tx.update(jnp.zeros(3), tx.init(x), x)
    # The rate enters squared; then come a power, two products, a sum and a quotient.
    np.testing.assert_allclose(
        updates, np.expm1(-0.5 * np.log1p(rate**2)), rtol=roundings(16, "float32")
    )

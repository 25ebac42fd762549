"""One word ports a run: 200 float64 steps as Optax, PyTorch, Keras and the papers have them.

Optax runs beside gradtx; for the others the recurrences of `references.py` stand, which name their
sources. Gradients are given, so that rounding does not grow as in a closed loop around a minimum; decay
closes the loop. All optimizers of a test run side by side in one program, which compiles once.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import references as ref
from references import iterates
from rounding import roundings
from runs import run_all, steps_of

import gradtx
from gradtx import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    by_rank,
    chain,
    nadam,
    nadamw,
    rmsprop,
    scale,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
)  # fmt: skip

STEPS = 200
RNG = np.random.default_rng(0)
THETA = RNG.normal(size=(4, 3))
# They drift and shrink, so that averages of every length differ from the last gradient.
GRADIENTS = (RNG.normal(size=(STEPS, 4, 3)) + 0.5) * np.geomspace(1, 0.01, STEPS)[:, None, None]


def falling(count):
    return 0.1 / (1 + 0.1 * count)


def rising(count):
    return 1e-3 * (1 + count)


def half(count):
    return 1.0 / (2.0 + count)


# What two runs may differ by, relative to the largest number: a step's twenty roundings in both of them,
# the mean's for 10 steps and half of those of the square, whose decay 0.999 remembers all steps. The
# corrections of the recurrences subtract 0.999^t from 1, which is off by 1 / (1 - 0.999) roundings.
TWO_RUNS = roundings(2 * 20 * STEPS + 2 / (1 - 0.999))


def gap(a, b):
    """The largest difference, relative to the largest number of all."""
    return np.max(np.abs(np.subtract(a, b))) / np.max(np.abs(b))


def below(limit, gaps):
    """Asks that each of `gaps`, by the name of its case, be at most `limit`."""
    wide = {name: gap for name, gap in gaps.items() if not gap <= limit}
    assert not wide, f"more than {limit:.1e}"


# --- torch, Keras, papers -------------------------------------------------------------------------


def given(system, **hyper):
    return partial(system, **hyper)


CASES = [
    # The first two lines of each group use the defaults of the convention alone.
    (sgd(convention="torch"), given(ref.sgd_torch, b=0.0)),
    (sgd(falling, momentum=0.9, convention="torch"), given(ref.sgd_torch, lr=falling)),
    (sgd(0.1, 0.9, dampening=0.3, convention="torch"), given(ref.sgd_torch, lr=0.1, dampening=0.3)),
    (
        sgd(0.1, 0.9, nesterov=True, weight_decay=0.2, convention="torch"),
        given(ref.sgd_torch, lr=0.1, nesterov=True, weight_decay=0.2),
    ),
    (sgd(convention="keras"), given(ref.sgd, lr=1e-2)),
    (sgd(falling, momentum=0.9, convention="keras"), given(ref.heavy_ball_inside, lr=falling)),
    (
        sgd(rising, momentum=0.9, nesterov=True, convention="keras"),
        given(ref.nesterov_inside, lr=rising),
    ),
    (sgd(falling, momentum=0.9, convention="paper"), given(ref.heavy_ball_inside, lr=falling)),
    # Adam's momentum is an average: Kingma and Ba (2015), arXiv:1412.6980.
    (
        chain(scale_by_momentum(0.9), scale_by_learning_rate(falling)),
        given(ref.ema_momentum, lr=falling),
    ),
    (adagrad(convention="torch"), ref.adagrad_torch),
    (
        adagrad(0.3, lr_decay=0.1, weight_decay=0.2, convention="torch"),
        given(ref.adagrad_torch, lr=0.3, lr_decay=0.1, weight_decay=0.2),
    ),
    (adagrad(convention="keras"), ref.adagrad_keras),
    (adagrad(falling, convention="paper"), given(ref.adagrad, lr=falling)),
    (adagrad(0.1, eps=0.01, convention="paper"), given(ref.adagrad, delta=0.01)),
    (rmsprop(convention="torch"), ref.rmsprop_torch),
    (
        rmsprop(falling, momentum=0.9, centered=True, weight_decay=0.2, convention="torch"),
        given(ref.rmsprop_torch, lr=falling, momentum=0.9, centered=True, weight_decay=0.2),
    ),
    (rmsprop(convention="keras"), ref.rmsprop_keras),
    (
        rmsprop(falling, momentum=0.9, centered=True, convention="keras"),
        given(ref.rmsprop_keras, lr=falling, momentum=0.9, centered=True),
    ),
    (rmsprop(0.01, convention="paper"), ref.rmsprop),
    (rmsprop(1e-4, 0.95, 1e-4, centered=True, momentum=0.9), ref.rmsprop_graves),
    (adadelta(convention="torch"), ref.adadelta_torch),
    (adadelta(weight_decay=0.2, convention="torch"), given(ref.adadelta_torch, weight_decay=0.2)),
    (adadelta(convention="keras"), ref.adadelta_keras),
    (adadelta(convention="paper"), ref.adadelta),
    (adam(convention="torch"), ref.adam_torch),
    (
        adam(falling, weight_decay=0.2, convention="torch"),
        given(ref.adam_torch, lr=falling, weight_decay=0.2),
    ),
    (adam(convention="keras"), ref.adam_keras),
    (adam(falling, eps=0.01, convention="keras"), given(ref.adam_keras, lr=falling, eps=0.01)),
    (
        adam(0.01, weight_decay=0.2, convention="keras"),
        given(ref.adam_keras, lr=0.01, weight_decay=0.2),
    ),
    (adam(convention="paper"), ref.adam),
    (adamw(convention="torch"), ref.adamw_torch),
    (adamw(convention="keras"), ref.adamw_keras),
    (
        adamw(0.01, schedule=half, convention="paper"),
        given(ref.adamw, lr=0.01, schedule=half, decay="schedule", weight_decay=1e-4),
    ),
    (adamw(0.01, schedule=half, weight_decay=0.01), given(ref.adamw, lr=0.01, schedule=half)),
    (
        adamw(0.01, schedule=half, weight_decay=0.01, decay_mode="absolute"),
        given(ref.adamw, lr=0.01, schedule=half, decay="absolute"),
    ),
    (amsgrad(convention="torch"), ref.amsgrad_torch),
    (
        amsgrad(0.01, weight_decay=0.2, convention="torch"),
        given(ref.amsgrad_torch, lr=0.01, weight_decay=0.2),
    ),
    (amsgrad(convention="keras"), given(ref.adam_keras, amsgrad=True)),
    (amsgrad(1e-3, convention="paper"), ref.amsgrad_paper),
    (nadam(convention="torch"), ref.nadam_torch),
    (
        nadam(0.01, weight_decay=0.2, convention="torch"),
        given(ref.nadam_torch, lr=0.01, weight_decay=0.2),
    ),
    (
        nadam(0.01, weight_decay=0.2, decoupled=True, convention="torch"),
        given(ref.nadam_torch, lr=0.01, weight_decay=0.2, decoupled=True),
    ),
    (
        nadamw(0.01, weight_decay=0.2, convention="torch"),
        given(ref.nadam_torch, lr=0.01, weight_decay=0.2, decoupled=True),
    ),
    (nadam(convention="keras"), ref.nadam_keras),
]


def test_each_convention_follows_its_recurrence_step_by_step():
    gaps = {}
    runs = run_all([tx for tx, _ in CASES], GRADIENTS, THETA)
    for i, ((tx, system), (updates, points)) in enumerate(zip(CASES, runs, strict=True)):
        theirs = system(list(GRADIENTS), THETA)
        gaps[i, repr(tx)] = max(gap(updates, theirs), gap(points, iterates(THETA, theirs)))
    below(TWO_RUNS, gaps)


KERAS_DECAYED = [
    (partial(sgd, 0.1, momentum=0.9, nesterov=True), ref.nesterov_inside),
    (partial(adagrad, 0.1), ref.adagrad_keras),
    (partial(rmsprop, 0.1, momentum=0.9), partial(ref.rmsprop_keras, momentum=0.9)),
    (partial(adadelta, 0.1), ref.adadelta_keras),
    (partial(nadam, 0.1), ref.nadam_keras),
]


def test_decay_of_keras_is_times_the_rate_and_stays_out_of_every_average():
    gaps = {}
    txs = [recipe(weight_decay=0.2, convention="keras") for recipe, _ in KERAS_DECAYED]
    runs = run_all(txs, GRADIENTS, THETA)
    for tx, (_, system), (updates, points) in zip(txs, KERAS_DECAYED, runs, strict=True):
        before = np.concatenate([THETA[None], points[:-1]])
        want = system(list(GRADIENTS), THETA, lr=0.1) - 0.1 * 0.2 * before
        gaps[repr(tx)] = gap(updates, want)
    below(TWO_RUNS, gaps)


# --- Optax ----------------------------------------------------------------------------------------

TREE = {"w": THETA, "b": np.ones(3)}
PAIRS = {
    "sgd": (sgd(falling), optax.sgd(falling)),
    "momentum": (sgd(falling, 0.9), optax.sgd(falling, 0.9)),
    "nesterov": (sgd(falling, 0.9, nesterov=True), optax.sgd(falling, 0.9, nesterov=True)),
    "adagrad": (adagrad(0.1), optax.adagrad(0.1)),
    "adagrad_from_1": (adagrad(0.1, 1.0, 1e-3), optax.adagrad(0.1, 1.0, 1e-3)),
    "rmsprop": (rmsprop(0.01), optax.rmsprop(0.01)),
    "rmsprop_out": (rmsprop(0.01, 0.99, 1e-3, 0.5, False), optax.rmsprop(0.01, 0.99, 1e-3, 0.5, False)),
    "rmsprop_debiased": (
        rmsprop(falling, bias_correction=True), optax.rmsprop(falling, bias_correction=True),
    ),
    "rmsprop_centered": (
        rmsprop(falling, centered=True, momentum=0.9, nesterov=True),
        optax.rmsprop(falling, centered=True, momentum=0.9, nesterov=True),
    ),
    "adadelta": (adadelta(1.0, 0.95, 1e-3), optax.adadelta(1.0, 0.95, 1e-3)),
    "adadelta_l2": (adadelta(1.0, weight_decay=0.1), optax.adadelta(1.0, weight_decay=0.1)),
    "adam": (adam(0.01), optax.adam(0.01)),
    "adam_root": (adam(falling, eps_root=1e-3), optax.adam(falling, eps_root=1e-3)),
    "adamw": (adamw(0.01, weight_decay=0.1), optax.adamw(0.01, weight_decay=0.1)),
    "adamw_masked": (
        adamw(0.01, weight_decay=0.1, mask=by_rank(2)),
        optax.adamw(0.01, weight_decay=0.1, mask={"w": True, "b": False}),
    ),
    "nadam": (nadam(0.01), optax.nadam(0.01)),
    "adam_nesterov": (adam(0.01, nesterov=True), optax.adam(0.01, nesterov=True)),
    "nadamw": (nadamw(0.01), optax.nadamw(0.01)),
    "adamw_nesterov": (adamw(0.01, nesterov=True), optax.adamw(0.01, nesterov=True)),
    "amsgrad": (amsgrad(0.01), optax.amsgrad(0.01)),
    "amsgrad_raw": (
        amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False),
        optax.amsgrad(0.01, bias_correction_mu=False, bias_correction_nu=False),
    ),
    "names of Optax": (
        chain(gradtx.add_decayed_weights(0.1), gradtx.clip_by_block_rms(0.2),
              gradtx.trace(0.9, nesterov=True), gradtx.ema(0.8), gradtx.scale_by_rss(),
              gradtx.scale_by_schedule(falling), scale(-1.0)),
        optax.chain(optax.add_decayed_weights(0.1), optax.clip_by_block_rms(0.2),
                    optax.trace(0.9, nesterov=True), optax.ema(0.8), optax.scale_by_rss(),
                    optax.scale_by_schedule(falling), optax.scale(-1.0)),
    ),
    "scaled": (
        chain(gradtx.adaptive_grad_clip(0.1), gradtx.scale_by_adam(), gradtx.scale_by_adadelta(),
              gradtx.scale_by_rms(), gradtx.ema(0.8, debias=False), gradtx.scale_by_stddev(),
              scale(-0.01)),
        optax.chain(optax.adaptive_grad_clip(0.1), optax.scale_by_adam(), optax.scale_by_adadelta(),
                    optax.scale_by_rms(), optax.ema(0.8, debias=False), optax.scale_by_stddev(),
                    optax.scale(-0.01)),
    ),
}  # fmt: skip


def test_the_same_name_as_in_optax_means_the_same_steps():
    txs = [tx for pair in PAIRS.values() for tx in pair]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # as Optax needs

        def body(carry, w):
            g, after = {"w": w, "b": jnp.tanh(w[0])}, []
            for tx, (params, state) in zip(txs, carry, strict=True):
                updates, state = tx.update(g, state, params)
                after.append((optax.apply_updates(params, updates), state))
            return after, [params for params, _ in after]

        params = jax.tree.map(jnp.asarray, TREE)
        start = [(params, tx.init(params)) for tx in txs]
        seen = jax.jit(lambda start, rows: jax.lax.scan(body, start, rows)[1])(
            start, jnp.asarray(GRADIENTS)
        )
    pairs = zip(seen[::2], seen[1::2], strict=True)
    gaps = {
        name: max(gap(mine[k], theirs[k]) for k in TREE)
        for name, (mine, theirs) in zip(PAIRS, pairs, strict=True)
    }
    below(TWO_RUNS, gaps)


# --- What a convention is -------------------------------------------------------------------------


def test_a_convention_is_the_defaults_that_it_stands_for():
    assert adam(1e-3, convention="torch") == adam(convention="torch") == adam(1e-3)
    assert (
        repr(adam(1e-3, convention="keras"))
        == "adam(0.001, eps=1e-07, decoupled=True, eps_hat=True)"
    )
    assert adam(1e-3, eps=1e-3, convention="keras").eps == 1e-3
    assert rmsprop(0.1, 0.8, convention="torch").decay == 0.8
    # Under Optax's, a rate must be given, as there.
    with pytest.raises(TypeError, match="learning_rate"):
        adam()


@pytest.mark.parametrize(
    "recipe", [sgd, adagrad, rmsprop, adadelta, adam, adamw, amsgrad, nadam, nadamw]
)
def test_no_convention_ascends_by_default(recipe):
    txs = []
    for convention in ("optax", *recipe.conventions):
        own = recipe is adadelta or "learning_rate" in recipe.conventions.get(convention, {})
        txs.append(recipe(**({} if own else {"learning_rate": 0.1}), convention=convention))
    for tx, u in zip(txs, steps_of(txs, np.array([[2.0, -3.0]])), strict=True):
        assert np.all(u * [2.0, -3.0] < 0), tx


def test_an_unknown_convention_is_refused():
    with pytest.raises(
        ValueError, match=r"sgd\(convention='jax'\).*'keras', 'optax', 'paper', 'torch'"
    ):
        sgd(0.1, convention="jax")
    with pytest.raises(ValueError, match="make a new one with the convention"):
        dataclasses.replace(adam(1e-3), convention="keras")
    with pytest.raises(ValueError, match="no field `convention`"):
        gradtx.replace(adam(1e-3), convention="keras")


def test_what_has_no_meaning_is_refused():
    for make, says in (
        (partial(rmsprop, 0.1, centered=True, bias_correction=True), "the root of epsilon"),
        (partial(sgd, 0.1, momentum=0.9, nesterov=True, dampening=0.1), "dampening"),
        (partial(sgd, 0.1, dampening=0.1), "dampening"),
        (partial(adamw, 0.1, decay_mode="rate"), "decay_mode"),
    ):
        with pytest.raises(ValueError, match=says):
            make()
    with pytest.raises(TypeError, match="schedule"):
        adam(0.1, b2=half, eps_hat=True)

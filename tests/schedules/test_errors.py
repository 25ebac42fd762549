"""A bad argument of a schedule is refused when it is made, by a sentence that names it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import gradtx
from gradtx import constant_schedule, join_schedules, linear_schedule, sgdr_schedule


def half(step):
    return 0.5


RISE = linear_schedule(0.0, 1.0, 4)
WRONG = [
    (lambda: linear_schedule(0.0, 1.0, 0), r"linear_schedule\(transition_steps=0.0\)"),
    (lambda: linear_schedule(0.0, float("nan"), 3), "end_value=nan"),
    (lambda: linear_schedule(float("inf"), 1.0, 3), "init_value=inf"),
    (lambda: linear_schedule(0.0, 1.0, 3, -1), "transition_begin=-1.0"),
    (lambda: linear_schedule(half, 1.0, 3), r"init_value=...\)` cannot be a schedule"),
    (lambda: linear_schedule(RISE, 1.0, 3), "cannot be a schedule"),
    (lambda: linear_schedule("0", 1.0, 3), "init_value"),
    (lambda: linear_schedule(0.0, 1.0), "needs `transition_steps`"),
    (lambda: gradtx.polynomial_schedule(0.0, 1.0, -1, 3), "power=-1.0"),
    (lambda: gradtx.cosine_decay_schedule(1.0, -5), "decay_steps=-5.0"),
    (lambda: gradtx.cosine_decay_schedule(1.0, 5, exponent=-1), "exponent=-1.0"),
    (lambda: gradtx.exponential_decay(1.0, 5, 0.0), "decay_rate=0.0"),
    (lambda: gradtx.exponential_decay(1.0, 5, 0.5, end_value=half), "end_value"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, {1.5: 0.1}), "boundary 1.5"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, {-1: 0.1}), "boundary -1"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, {True: 0.1}), "boundary True"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, {1: -0.1}), "factor -0.1"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, {1: half}), "boundary 1"),
    (lambda: gradtx.piecewise_constant_schedule(1.0, [1, 2]), "must map steps to factors"),
    (lambda: gradtx.piecewise_interpolate_schedule("cubic", 1.0), "interpolate_type='cubic'"),
    (lambda: gradtx.linear_onecycle_schedule(10, 1.0, pct_start=1.5), "pct_start=1.5"),
    (lambda: gradtx.linear_onecycle_schedule(10, 1.0, 0.9, 0.5), "pct_final=0.5"),
    (lambda: gradtx.cosine_onecycle_schedule(10, 1.0, div_factor=0), "div_factor=0.0"),
    (lambda: gradtx.warmup_constant_schedule(0.0, 1.0, -1), "warmup_steps=-1.0"),
    (lambda: gradtx.warmup_cosine_decay_schedule(0.0, 1.0, 10, 10), "together"),
    (lambda: gradtx.warmup_stable_decay_schedule(0, 1, 2, 3, 4, decay_type="sqrt"), "1-sqrt"),
    (lambda: gradtx.warmup_stable_decay_schedule(0, 1, 2, -3, 4), "stable_steps=-3.0"),
    (lambda: gradtx.warmup_inverse_sqrt_schedule(0.0, 1.0, 0), "needs a `timescale`"),
    (lambda: join_schedules([RISE, RISE], []), "2 schedules and 0 boundaries"),
    (lambda: join_schedules([RISE, RISE, RISE], [5, 4]), "do not decrease"),
    (lambda: join_schedules([RISE, RISE], [-5]), "not negative"),
    (lambda: join_schedules([RISE, RISE], [half]), "cannot be a schedule"),
    (lambda: join_schedules([RISE, None], [4]), "None"),
    (lambda: join_schedules(RISE, [4]), r"join_schedules\(schedules=...\)` must be a list"),
    (lambda: join_schedules([RISE, RISE], 4), r"join_schedules\(boundaries=...\)` must be a list"),
    (lambda: sgdr_schedule([]), "at least one cycle"),
    (lambda: sgdr_schedule([RISE]), "warmup_cosine_decay_schedule"),
    (lambda: sgdr_schedule(RISE), "must be a list"),
    (lambda: sgdr_schedule([{"init_value": 0.0}]), "needs `peak_value`"),
    (lambda: gradtx.dampened(half), r"dampened\(dampening=...\)` cannot be a schedule"),
    (lambda: RISE.shift(half), "cannot be a schedule"),
]


@pytest.mark.parametrize(("make", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_bad_argument_is_refused_at_construction(make, says):
    with pytest.raises((TypeError, ValueError), match=says):
        make()


def test_the_value_of_a_schedule_is_checked_with_the_name_of_the_hyperparameter():
    class pair(gradtx.Schedule):
        def __call__(self, count):
            return jnp.ones(2)

    class branching(gradtx.Schedule):
        def __call__(self, count):
            return 1.0 if count < 3 else 0.5

    params = jnp.ones(2)
    for schedule in (pair(), 2.0 * pair(), join_schedules([0.0, pair()], [3])):
        tx = gradtx.sgd(schedule)
        with pytest.raises(ValueError, match=r"learning_rate.*shape \(2,\)"):
            tx.update(params, tx.init(params), params)
    for schedule in (branching(), 2.0 * branching()):
        tx = gradtx.adamw(0.1, weight_decay=schedule)
        with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
            jax.jit(tx.update)(params, tx.init(params), params)
        assert "weight_decay" in "".join(caught.value.__notes__)


def test_the_base_class_needs_its_method():
    class empty(gradtx.Schedule):
        rate: gradtx.Hyper = 0.1

    with pytest.raises(TypeError, match="`empty` must define `__call__"):
        empty()(0)


def test_a_schedule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError, match=r"gradtx.replace\(tx, value=...\)"):
        constant_schedule(1.0).value = 2.0

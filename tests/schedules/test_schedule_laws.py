"""The laws of a schedule, each for every schedule: it is a value, and its numbers are right."""

import copy
import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import schedule_zoo
from public import PUBLIC
from rounding import roundings
from schedule_zoo import make
from shares import EVERY

import gradtx

LAST = 2**31 - 1
# All steps in which the rows change, the steps after, and the last one that an int32 counts.
STEPS = np.array([*range(24), 100, 2**24 + 1, LAST - 1, LAST], "int32")


@pytest.fixture(params=schedule_zoo.ROWS)
def code(request):
    return request.param


def values(schedule, steps=STEPS):
    return np.asarray(schedule(jnp.asarray(steps)), "f8")


def every_number(schedule, factor=0.5):
    return jax.tree.map(lambda x: factor * x, schedule)


def test_every_public_schedule_has_a_row():
    def names(x):
        return {type(x).__name__}.union(*map(names, jax.tree.leaves(x, lambda y: y is not x)))

    public = {
        name
        for name, x in PUBLIC.items()
        if isinstance(x, type) and issubclass(x, gradtx.Schedule) and x is not gradtx.Schedule
    }
    public -= {
        "ema_weight",
        "mean_weight",
        "polynomial_weight",
        "power_weight",
    }  # in test_average.py
    assert {type(make(code)).__name__ for code in schedule_zoo.ROWS} >= public


def test_prints_as_the_code_that_makes_it(code):
    schedule = make(code)
    assert make(repr(schedule)) == schedule and repr(make(repr(schedule))) == repr(schedule)


def test_is_parsed_from_what_it_prints(code):
    assert gradtx.parse(repr(make(code))) == make(code)


def test_equal_code_makes_equal_values_of_equal_hash(code):
    a, b = make(code), make(code)
    assert a == b and hash(a) == hash(b) and a != every_number(a)
    assert [x for x in schedule_zoo.ROWS if make(x) == a] == [code]


def test_copies_and_pickles(code):
    schedule = make(code)
    for same in (
        copy.copy(schedule),
        copy.deepcopy(schedule),
        pickle.loads(pickle.dumps(schedule)),
    ):
        assert type(same) is type(schedule) and same == schedule and repr(same) == repr(schedule)


def test_is_a_pytree_of_floats(code):
    leaves, structure = jax.tree.flatten(make(code))
    assert leaves and all(type(x) is float for x in leaves)
    assert structure.unflatten(leaves) == make(code)
    odd = structure.unflatten([object()] * len(leaves))
    assert jax.tree.structure(odd) == structure
    assert dataclasses.replace(make(code)) == make(code)


def test_has_its_oracles_numbers_at_every_step(code):
    oracle = schedule_zoo.oracle(code)
    tolerance = oracle.size * roundings(oracle.ops, "float32")
    np.testing.assert_allclose(values(make(code)), oracle(STEPS), 0, tolerance)


def test_is_a_float32_scalar_for_every_kind_of_count(code):
    schedule, oracle = make(code), schedule_zoo.oracle(code)
    want = oracle(STEPS[:8])
    for i, kind in enumerate((int, np.int32, jnp.int32, jnp.uint8, jnp.int16, float, jnp.float32)):
        x = schedule(kind(i))
        assert isinstance(x, jax.Array) and x.shape == ()
        assert x.dtype == jnp.float32 and not x.weak_type
        np.testing.assert_allclose(x, want[i], 0, oracle.size * roundings(oracle.ops, "float32"))


@pytest.mark.parametrize("code", schedule_zoo.ROWS if EVERY else schedule_zoo.ROWS[::2])
def test_is_an_argument_of_jit_vmap_and_grad_and_new_numbers_do_not_retrace(code):
    schedule, oracle, steps = make(code), schedule_zoo.oracle(code), jnp.asarray(STEPS)
    weights = jnp.arange(1.0, 1 + len(STEPS)) / len(STEPS)
    traces = []

    @jax.jit
    def program(schedule, batch):  # one program, since compiling is what takes the time
        traces.append(1)
        mapped = jax.vmap(lambda s: s(steps))(batch)
        gradient = jax.grad(lambda s: jnp.dot(weights, s(steps)))(schedule)
        return schedule(steps), mapped, gradient

    other = every_number(schedule, 0.75)
    batch = jax.tree.map(lambda *x: jnp.array(x, "float32"), schedule, other)
    got, mapped, gradient = program(schedule, batch)
    # The numbers themselves are rounded to float32 on the way in.
    tolerance = oracle.size * roundings(2 * oracle.ops, "float32")
    np.testing.assert_allclose(got, oracle(STEPS), 0, tolerance)
    np.testing.assert_allclose(mapped, [got, program(other, batch)[0]], 0, tolerance)
    assert jax.tree.structure(gradient) == jax.tree.structure(schedule)
    assert all(np.isfinite(x) for x in jax.tree.leaves(gradient))
    program(make(code), batch)
    assert len(traces) == 1


def test_never_gives_a_nan_when_a_traced_number_of_steps_is_zero(code):
    def zero(path, x):
        steps = any(getattr(key, "name", "").endswith(("steps", "scale")) for key in path)
        return jnp.float32(0 if steps else x)

    schedule = jax.tree_util.tree_map_with_path(zero, make(code))
    if schedule != jax.tree.map(jnp.float32, make(code)):
        assert np.all(np.isfinite(jax.jit(lambda s: s(jnp.asarray(STEPS)))(schedule)))


def test_is_constant_from_its_horizon_on_or_has_shown_its_shape(code):
    schedule = make(code)
    assert schedule.horizon is None or (
        type(schedule.horizon) is float and 0 <= schedule.horizon < 100
    )


def test_three_optimizers_with_it_are_traced_once(code):
    traces = []

    @jax.jit
    def step(tx, params, state):
        traces.append(1)
        return tx.update(params, state, params)

    tx, params = gradtx.sgd(make(code)), jnp.ones(2)
    assert make(repr(tx)) == tx and pickle.loads(pickle.dumps(tx)) == tx
    for schedule in (make(code), copy.deepcopy(make(code)), every_number(make(code), 0.75)):
        step.trace(gradtx.sgd(schedule), params, tx.init(params))
    assert len(traces) == 1

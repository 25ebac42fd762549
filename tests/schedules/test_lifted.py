"""Arithmetic with numbers, arrays, schedules and numbers in the state, which all give one result."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx._schedules.lifted import lifted
from gradtx._schedules.schedule import Schedule, evaluate

SIGNS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "raised_to": operator.pow,
    "min": min,
    "max": max,
}
KINDS = {
    "a number": lambda x: x,
    "an array": lambda x: np.float32(x) * np.ones((), np.float32),
    "an array on a device": jnp.float32,
    "a schedule": lambda x: gradtx.linear_schedule(x, x, 3),
    "a function": lambda x: lambda step: x,
}


@pytest.mark.parametrize("sign", SIGNS)
def test_an_operator_has_the_same_result_for_every_kind_of_operand(sign):
    want = SIGNS[sign](0.25, 0.5)  # exact in float32
    for left in KINDS.values():
        for right in KINDS.values():
            result = lifted(sign, left(0.25), right(0.5))
            assert float(evaluate(result, 1)) == want
            assert callable(result) == (callable(left(0.25)) or callable(right(0.5)))


def test_python_numbers_are_computed_in_float64():
    assert lifted("-", 1, 0.9999) == 1 - 0.9999
    assert lifted("-", 0.25) == -0.25


def test_a_quotient_by_zero_is_zero():
    for zero in (0.0, np.zeros(()), jnp.zeros(()), gradtx.constant_schedule(0.0)):
        assert float(evaluate(lifted("/", 0.5, zero), 0)) == 0


def test_arrays_of_two_sweeps_give_every_pair():
    pairs = lifted("/", jnp.array([1.0, 2.0]), np.array([1.0, 2.0, 4.0], np.float16))
    np.testing.assert_array_equal(pairs, [[1.0, 0.5, 0.25], [2.0, 1.0, 0.5]])


class weighted(gradtx.Recipe):
    """An average whose weight is the complement of a decay."""

    b: gradtx.Hyper = 0.75

    def expand(self):
        return lifted("-", 1, self.b) * gradtx.identity()


def test_a_recipe_computes_with_numbers_that_are_swept_scheduled_or_in_the_state():
    g = jnp.ones(2)
    update = lambda tx: tx.update(g, tx.init(g))[0]
    for b in (0.75, jnp.float32(0.75), gradtx.constant_schedule(0.75)):
        for tx in (weighted(b), gradtx.tunable(weighted(b))):
            np.testing.assert_array_equal(update(tx), 0.25 * g)
    swept = jax.vmap(update)(weighted(jnp.array([0.25, 0.5])))
    np.testing.assert_array_equal(swept, np.array([[0.75] * 2, [0.5] * 2]))
    tx = gradtx.tunable(weighted())
    state = gradtx.set(tx.init(g), b=0.5)
    np.testing.assert_array_equal(tx.update(g, state)[0], 0.5 * g)
    assert isinstance(weighted(gradtx.constant_schedule(0.75)).expand().branches[0], Schedule)


def test_the_smaller_one_of_a_number_in_the_state_is_not_known():
    class capped(gradtx.Recipe):
        b: gradtx.Hyper = 0.75

        def expand(self):
            return gradtx.scale(lifted("min", self.b, 0.5))

    with pytest.raises(TypeError, match="not known when a transformation is lowered"):
        gradtx.tunable(capped()).init(jnp.ones(2))

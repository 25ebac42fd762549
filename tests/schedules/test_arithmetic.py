"""Operators and methods of schedules: what they accept, print, and compute at the ends of the count."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from schedule_zoo import make

import gradtx
from gradtx import cosine_decay_schedule, identity, join_schedules, linear_schedule

LAST = 2**31 - 1
RISE = linear_schedule(0.0, 1.0, 10)


def halved(step):
    return 0.5**step


@pytest.mark.parametrize(
    "code",
    [
        "2.0 * S",
        "S / 2.0 + S - 1.0",
        "S - (S - S)",
        "S - S - S",
        "S * S / S * S",
        "S / (S / S)",
        "(S + S) * S",
        "-S * S",
        "-(S * S)",
        "S - -S",
        "(-S).shift(3)",
        "(S + S).min(S - S).max(S).shift(-3)",
        "S * -2.0",
        "S.min(-2.0)",
        "identity() * (S + 2.0)",
        "identity() * S + 2.0",
        "S / identity()",
    ],
)
def test_what_operators_make_prints_with_the_parentheses_that_it_needs(code):
    value = eval(code, {"S": RISE, "identity": identity})
    assert repr(value) == code.replace("S", "linear_schedule(0.0, 1.0, 10)")
    assert make(repr(value)) == value
    assert gradtx.parse(repr(value)) == value


@pytest.mark.parametrize(
    "two", [2, 2.0, np.float32(2), np.int64(2), np.array(2.0), jnp.float32(2), jnp.int32(2)]
)
def test_an_operand_is_any_number_on_either_side(two):
    for schedule in (two * RISE, RISE * two, RISE + two, RISE / two, two - RISE, RISE.min(two)):
        assert isinstance(schedule, gradtx.Schedule)
    got = [(two * RISE)(5), (RISE / two)(5), (two - RISE)(5), (RISE + two)(5), (RISE - two)(5)]
    np.testing.assert_allclose(got, [1, 0.25, 1.5, 2.5, -1.5], 1e-7)


def test_an_operand_is_any_function_of_the_step():
    theirs = optax.linear_schedule(0.0, 2.0, 10)
    made = [RISE * theirs, theirs * RISE, theirs - RISE, RISE.max(theirs), RISE.min(theirs)]
    np.testing.assert_allclose([x(5) for x in made], [0.5, 0.5, 0.5, 1, 0.5], 1e-6)
    assert all(x(5).dtype == jnp.float32 for x in made)
    np.testing.assert_allclose(join_schedules([theirs, halved], [4])(6), 0.25, 1e-6)
    assert repr(RISE * halved) == "linear_schedule(0.0, 1.0, 10) * halved"


@pytest.mark.parametrize("other", [None, "x", (1,), {}, [2.0]])
def test_other_operands_are_refused(other):
    with pytest.raises(TypeError):
        RISE * other
    with pytest.raises(TypeError):
        other - RISE


def test_a_quotient_is_zero_where_its_denominator_is():
    np.testing.assert_array_equal((1.0 / RISE)(jnp.arange(2)), [0, 10])


def test_shift_holds_the_first_value_and_does_not_overflow():
    later, earlier = RISE.shift(3), RISE.shift(-3)
    np.testing.assert_allclose(later(jnp.arange(5)), [0, 0, 0, 0, 0.1], 1e-6)
    np.testing.assert_allclose(earlier(jnp.arange(2)), [0.3, 0.4], 1e-6)
    assert earlier(LAST) == 1 and later(LAST) == 1
    assert RISE.shift(2.5)(3) == np.float32(0.05)
    assert (RISE.shift(3).horizon, (RISE + 1).horizon, RISE.shift(-20).horizon) == (13, 10, 0)


def test_steps_far_beyond_what_float32_counts_are_told_apart():
    begin = 2**24 + 1  # not a float32
    late = linear_schedule(0.0, 1.0, 4, transition_begin=begin)
    np.testing.assert_array_equal(late(begin + jnp.arange(6)), [0, 0.25, 0.5, 0.75, 1, 1])
    joined = join_schedules([0.0, linear_schedule(1.0, 0.0, 4)], [begin])
    np.testing.assert_array_equal(joined(begin - 1 + jnp.arange(5)), [0, 1, 0.75, 0.5, 0.25])
    stairs = gradtx.exponential_decay(1.0, 10_000_019, 0.5, staircase=True)
    np.testing.assert_array_equal(stairs(10_000_019 * 3 + jnp.arange(-1, 2)), [0.25, 0.125, 0.125])
    # The last steps of the longest decay: the share that remains has all its digits.
    longest = cosine_decay_schedule(1.0, LAST)
    got = longest(LAST - jnp.arange(4)[::-1])
    remaining = np.arange(3.0, -1, -1)
    np.testing.assert_allclose(got, np.sin(np.pi / 2 * remaining / LAST) ** 2, 1e-6)
    assert gradtx.constant_schedule(0.5)(2**40) == 0.5 and longest(2**40) == 0


def test_a_number_that_is_an_array_of_integers_counts_exactly():
    begin = jnp.int32(2**24 + 1)
    late = linear_schedule(0.0, 1.0, jnp.int32(4), transition_begin=begin)
    np.testing.assert_array_equal(late(2**24 + jnp.arange(4)), [0, 0, 0.25, 0.5])
    assert gradtx.exponential_decay(1.0, np.int32(2), 0.5, staircase=True)(5) == 0.25

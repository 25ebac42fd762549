"""Schedules have the numbers of Optax's functions of the same name and the same arguments."""

import contextlib
import dataclasses
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import schedule_oracles
from hypothesis import given, strategies as st
from rounding import roundings

import gradtx

# Multiples of 2^-10, so that Optax's `int(share * steps)` is not off by a rounding error.
shares = st.integers(0, 1024).map(lambda n: n / 1024)
numbers = shares.map(lambda x: round(4 * x - 2, 6))
positive = st.integers(1, 1024).map(lambda n: n / 256)
lengths = st.one_of(st.integers(1, 12), st.integers(1, 100_000))
begins = st.one_of(st.just(0), lengths)
exponents = st.sampled_from([0.5, 1.0, 2.0, 3.0])
warm = {"init_value": numbers, "peak_value": positive, "warmup_steps": begins}
phases = {
    "transition_steps": lengths,
    "decay_rate": st.sampled_from([0.1, 0.5, 0.96, 1.0, 1.01]),
    "transition_begin": begins,
    "staircase": st.booleans(),
    "end_value": st.none() | positive,
}
tables = st.dictionaries(lengths, st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]), max_size=2)

ARGUMENTS = {
    "constant_schedule": {"value": numbers},
    "linear_schedule": {
        "init_value": numbers,
        "end_value": numbers,
        "transition_steps": lengths,
        "transition_begin": begins,
    },
    "polynomial_schedule": {
        "init_value": numbers,
        "end_value": numbers,
        "power": exponents,
        "transition_steps": lengths,
        "transition_begin": begins,
    },
    "cosine_decay_schedule": {
        "init_value": numbers,
        "decay_steps": lengths,
        "alpha": shares,
        "exponent": exponents,
    },
    "exponential_decay": {"init_value": positive, **phases},
    "piecewise_constant_schedule": {
        "init_value": numbers,
        "boundaries_and_scales": st.none() | tables,
    },
    "piecewise_interpolate_schedule": {
        "interpolate_type": st.sampled_from(["linear", "cosine"]),
        "init_value": numbers,
        "boundaries_and_scales": st.none() | tables,
    },
    "warmup_constant_schedule": {**warm, "warmup_steps": lengths},
    "warmup_cosine_decay_schedule": {
        **warm,
        "decay_steps": lengths,
        "end_value": numbers,
        "exponent": exponents,
    },
    "warmup_exponential_decay_schedule": {**warm, **phases},
    "linear_onecycle_schedule": {
        "transition_steps": lengths.map(lambda n: n + 40),
        "peak_value": numbers,
        "pct_start": st.sampled_from([0.125, 0.25, 0.5]),
        "pct_final": st.sampled_from([0.625, 0.75, 0.875]),
        "div_factor": positive,
        "final_div_factor": positive,
    },
    "cosine_onecycle_schedule": {
        "transition_steps": lengths.map(lambda n: n + 40),
        "peak_value": numbers,
        "pct_start": st.sampled_from([0.0, 0.125, 0.5, 0.75]),
        "div_factor": positive,
        "final_div_factor": positive,
    },
}


def steps_at(arguments, data):
    """Steps at, beside and between all boundaries that the arguments can give rise to."""
    given = [x for k, x in arguments.items() if k.endswith(("steps", "begin"))]
    given += [*(arguments.get("boundaries_and_scales") or ())]
    given += [sum(given), *(x * n // 8 for x in given for n in (1, 2, 4, 5, 6, 7))]
    near = {0, 1, *(x + n for x in given for n in (-1, 0, 1)), 2 * sum(given) + 7}
    drawn = st.lists(st.sampled_from(sorted(x for x in near if x >= 0)), min_size=24, max_size=24)
    return np.array(data.draw(drawn), "int32")  # one length, so that nothing is compiled again


def of_optax(name, arguments, steps):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        schedule = getattr(optax, name)(**arguments)
        if name.endswith("_schedule") and ("piecewise" in name or "onecycle" in name):
            schedule = jax.vmap(schedule)  # Optax's tables are looked up for one step at a time
        return np.broadcast_to(np.asarray(schedule(jnp.asarray(steps)), "f8"), steps.shape)


@pytest.mark.parametrize("name", ARGUMENTS)
@given(data=st.data())
def test_has_the_numbers_of_optax_and_of_its_equation(name, data):
    arguments = data.draw(st.fixed_dictionaries(ARGUMENTS[name]))
    if name == "warmup_cosine_decay_schedule":
        arguments["decay_steps"] += arguments["warmup_steps"]
    steps = steps_at(arguments, data)
    got = np.asarray(getattr(gradtx, name)(**arguments)(jnp.asarray(steps)), "f8")
    oracle = getattr(schedule_oracles, name)(**arguments)
    exact = oracle(steps)
    size = np.maximum(oracle.size, np.abs(exact))
    np.testing.assert_array_less(
        np.abs(got - exact), size * roundings(oracle.ops, "float32") + 1e-37
    )
    # Optax rounds the rate of an exponential decay to float32 before it takes the power.
    rounded = steps.max() / arguments["transition_steps"] if "decay_rate" in arguments else 0
    theirs = size * roundings(2 * oracle.ops + 2 * rounded, "float32") + 1e-37
    exponent = arguments.get("exponent", arguments.get("power", 1))
    if exponent < 1:  # Optax's difference near 0 loses the digits of which the root is taken
        theirs += size * roundings(4, "float32") ** exponent
    if arguments.get("decay_rate", 0) > 1:  # where growth has taken Optax's power beyond its digits
        theirs = np.where(np.abs(exact) > 1e6, np.inf, theirs)
    if arguments.get("staircase"):  # where Optax may stand one stair higher, see below
        begin = arguments["transition_begin"] + arguments.get("warmup_steps", 0)
        theirs += np.where((steps - begin) % arguments["transition_steps"] == 0, np.inf, 0)
    np.testing.assert_array_less(np.abs(of_optax(name, arguments, steps) - got), theirs)


@given(data=st.data())
def test_joined_cycles_have_the_numbers_of_optax(data):
    cycles = data.draw(
        st.lists(
            st.fixed_dictionaries({**warm, "decay_steps": lengths, "end_value": numbers}),
            min_size=1,
            max_size=3,
        )
    )
    for x in cycles:
        x["decay_steps"] += x["warmup_steps"]
    ends = np.cumsum([x["decay_steps"] for x in cycles])
    near = {0, 1, *(int(x) + n for x in ends for n in (-1, 0, 1))}
    drawn = st.lists(st.sampled_from(sorted(near)), min_size=24, max_size=24)
    steps = np.array(data.draw(drawn), "int32")
    want = of_optax("sgdr_schedule", {"cosine_kwargs": cycles}, steps)
    got = np.asarray(gradtx.sgdr_schedule(cycles)(jnp.asarray(steps)))
    np.testing.assert_allclose(got, want, 0, 4 * roundings(60, "float32"))


def test_schedules_have_optaxs_names_arguments_and_defaults():
    names = {n for n in dir(optax) if n.endswith("_schedule") and not n.startswith("scale_by")}
    names |= {"exponential_decay", "join_schedules"}
    assert names - {"inject_stateful_schedule"} >= ARGUMENTS.keys()
    for name in sorted(names):
        theirs = inspect.signature(getattr(optax, name)).parameters.values()
        mine = dataclasses.fields(getattr(gradtx, name))
        assert [f.name for f in mine] == [p.name for p in theirs], name
        for field, parameter in zip(mine, theirs, strict=True):
            missing = field.default is dataclasses.MISSING
            assert missing == (parameter.default is parameter.empty), (name, field.name)
            if not missing:
                assert field.default == parameter.default, (name, field.name)


@contextlib.contextmanager
def standard():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class TestWhatDiffersOnPurpose:
    """The rows of the table in `docs/optax.md`."""

    def test_without_warm_up_steps_the_value_is_the_peak_at_once(self):
        assert gradtx.warmup_constant_schedule(0.0, 1.0, 0)(5) == 1
        with standard():
            assert optax.warmup_constant_schedule(0.0, 1.0, 0)(5) == 0

    def test_a_peak_of_zero_does_not_hide_the_end_value(self):
        assert gradtx.warmup_cosine_decay_schedule(1.0, 0.0, 2, 4, 0.5)(4) == 0.5
        with standard():
            assert optax.warmup_cosine_decay_schedule(1.0, 0.0, 2, 4, 0.5)(4) == 0

    def test_the_first_value_is_exact_however_large_the_last_one_is(self):
        assert gradtx.linear_schedule(1e-8, 1.0, 10)(0) == np.float32(1e-8)
        with standard():
            assert optax.linear_schedule(1e-8, 1.0, 10)(0) == 0

    def test_a_warm_up_of_a_million_steps_has_all_its_digits(self):
        got = gradtx.linear_schedule(0.0, 1.0, 1_000_003)(1)
        np.testing.assert_allclose(got, 1 / 1_000_003, roundings(4, "float32"))
        with standard():
            assert abs(float(optax.linear_schedule(0.0, 1.0, 1_000_003)(1)) * 1_000_003 - 1) > 0.01

    def test_a_share_of_the_steps_is_not_rounded_down_below_its_integer(self):
        assert gradtx.linear_onecycle_schedule(100, 1.0, 0.29)(29) == 1
        with standard():
            assert optax.linear_onecycle_schedule(100, 1.0, 0.29)(29) < 1

    def test_a_staircase_falls_at_its_step_and_not_one_step_later(self):
        mine = gradtx.exponential_decay(1.0, 227, 0.1, staircase=True)
        np.testing.assert_allclose(mine(jnp.arange(225, 229)), [1, 1, 0.1, 0.1], 1e-6)
        traced = jax.jit(lambda s, t: s(t))(mine, jnp.arange(225, 229))
        np.testing.assert_allclose(traced, [1, 1, 0.1, 0.1], 1e-6)
        with standard():
            theirs = jax.jit(optax.exponential_decay(1.0, 227, 0.1, staircase=True))
            np.testing.assert_allclose([theirs(226), theirs(227), theirs(228)], [1, 1, 0.1], 1e-6)

    def test_phases_of_one_cycle_that_have_no_steps_are_passed_over(self):
        cycle = {"pct_start": 0.5, "pct_final": 0.5, "div_factor": 4.0, "final_div_factor": 2.0}
        got = [float(gradtx.linear_onecycle_schedule(8, 1.0, **cycle)(t)) for t in (0, 4, 8)]
        assert got == [0.25, 0.25, 0.125]
        with standard():
            assert optax.linear_onecycle_schedule(8, 1.0, **cycle)(8) != 0.125

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("linear_schedule", (1.0, 0.0, 0)),
            ("linear_schedule", (1.0, 0.0, 10, -5)),
            ("polynomial_schedule", (1.0, 0.0, 2.0, -1)),
            ("exponential_decay", (1.0, 0, 0.5)),
            ("exponential_decay", (1.0, 10, 0.0)),
            ("exponential_decay", (1.0, 10, -0.5)),
            ("join_schedules", ([abs, abs], [1, 2])),
            ("linear_onecycle_schedule", (100, 1.0, 0.9, 0.1)),
        ],
    )
    def test_what_optax_replaces_in_silence_is_an_error(self, name, arguments):
        with pytest.raises(ValueError, match=name):
            getattr(gradtx, name)(*arguments)
        with standard():
            assert callable(getattr(optax, name)(*arguments))

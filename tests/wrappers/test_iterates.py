"""Wrappers with a second sequence of parameters, against their papers' recursions in NumPy float64.

Every recursion keeps all sequences of its paper. The wrappers keep fewer, and get the others from the
trained parameters.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose
from rounding import roundings
from zoo import SMALL, exactly, train, tree

import gradtx
from gradtx import (
    adamw,
    averaged,
    chain,
    decoupled_weight_decay,
    ema_nesterov,
    eval_params,
    linear_schedule,
    lookahead,
    masked,
    master_weights,
    outer,
    scale,
    scale_by_learning_rate,
    schedule_free,
    schedule_free_sgd,
    sgd,
)  # fmt: skip

STEPS, SIZE = 12, 3
CURVATURE = np.array([0.3, 1.0, 2.5])
START = np.array([1.0, -2.0, 0.5])


def gradient(x):
    """Of a quadratic with a quartic term, so that it depends on where it is taken."""
    return CURVATURE * x + 0.1 * x**3


def warm(n):
    return min(1.0, (n + 1) / 4) * 0.2


def schedule_free_oracle(beta, p, r, decay=0.0, at_z=False, rate=warm):
    """Defazio et al. (2024), eq. 3-5 and algorithm 1: z, x and y, all three of them kept."""
    z = x = y = START
    total, largest = 0.0, 0.0
    out = []
    for n in range(STEPS):
        z = z - rate(n) * (gradient(y) + decay * (z if at_z else y))
        largest = max(largest, rate(n))
        w = (n + 1) ** r * largest**p
        total += w
        c = w / total if total else 1.0  # no step has been taken, and z is x
        x = (1 - c) * x + c * z
        b = beta(n)
        y = (1 - b) * z + b * x
        out.append((y, x))
    return out


def lookahead_oracle(k, alpha):
    """Zhang et al. (2019), algorithm 1: two nested loops."""
    slow = fast = START
    out = []
    for n in range(STEPS):
        fast = fast - warm(n) * gradient(fast)
        if (n + 1) % k == 0:
            slow = fast = slow + alpha * (fast - slow)
        out.append((fast, slow))
    return out


def diloco_oracle(k, rate, momentum):
    """Douillard et al. (2023), algorithm 1 with one worker; torch's SGD with Nesterov's momentum."""
    slow = fast = START
    buffer = np.zeros(SIZE)
    out = []
    for n in range(STEPS):
        fast = fast - warm(n) * gradient(fast)
        if (n + 1) % k == 0:
            delta = slow - fast
            buffer = momentum * buffer + delta
            slow = fast = slow - rate * (delta + momentum * buffer)
        out.append((fast, slow))
    return out


def ema_nesterov_oracle(gamma, beta):
    """arXiv:2605.25395: the gradient at theta + beta_t m, and the step from there."""
    theta, m = START, np.zeros(SIZE)
    out = []
    for n in range(STEPS):
        ahead = theta + beta(n) * m
        new = ahead - warm(n) * gradient(ahead)
        m = gamma * m + (1 - gamma) * (new - theta)
        theta = new
        out.append((theta + beta(n + 1) * m, theta))
    return out


RATE = linear_schedule(0.05, 0.2, 3)  # `warm` as a schedule
SGD = sgd(RATE)
DECAYING = chain(decoupled_weight_decay(0.1), scale_by_learning_rate(RATE))
rising = linear_schedule(0.5, 0.9, 8)
CASES = {
    "schedule_free": (
        schedule_free(SGD, RATE, b1=0.8),
        lambda: schedule_free_oracle(lambda n: 0.8, p=2, r=0),
    ),
    "schedule_free, all settings": (
        schedule_free(DECAYING, RATE, rising, 1.5, r=0.5, decay_at_z=True),
        lambda: schedule_free_oracle(lambda n: 0.5 + 0.05 * min(n, 8), 1.5, 0.5, 0.1, at_z=True),
    ),
    "schedule_free, decay at y": (
        schedule_free(DECAYING, RATE, 0.9),
        lambda: schedule_free_oracle(lambda n: 0.9, 2, 0, 0.1),
    ),
    "schedule_free_sgd": (
        schedule_free_sgd(0.2, warmup_steps=4, weight_decay=0.1),
        lambda: schedule_free_oracle(lambda n: 0.9, 2, 0, 0.1, rate=lambda n: 0.05 * min(n, 4)),
    ),
    "schedule_free, primal averaging": (
        schedule_free(SGD, RATE, 1.0, 0.0),
        lambda: schedule_free_oracle(lambda n: 1.0, 0, 0),
    ),
    "lookahead": (lookahead(SGD, 5, 0.3), lambda: lookahead_oracle(5, 0.3)),
    "diloco": (
        outer(SGD, sgd(0.7, momentum=0.5, nesterov=True), 3),
        lambda: diloco_oracle(3, 0.7, 0.5),
    ),
    "ema_nesterov": (ema_nesterov(SGD, 0.9, 0.6), lambda: ema_nesterov_oracle(0.9, lambda n: 0.6)),
    "ema_nesterov, scheduled": (
        ema_nesterov(SGD, 0.9, linear_schedule(0.0, 0.6, 6)),
        lambda: ema_nesterov_oracle(0.9, lambda n: 0.1 * min(n, 6)),
    ),
}  # fmt: skip


@functools.cache
def trajectories():
    """The trained parameters and those to evaluate with of every case, in one program."""
    names = list(CASES)

    def body(carry, _):
        after, seen = [], []
        for name, (params, state) in zip(names, carry, strict=True):
            tx = CASES[name][0]
            u, state = tx.update(gradient(params), state, params)
            params = gradtx.apply_updates(params, u)
            after.append((params, state))
            seen.append((params, eval_params(tx, params, state)))
        return after, seen

    with jax.enable_x64(True):
        start = jnp.asarray(START)
        carry = [(start, CASES[name][0].init(start)) for name in names]
        seen = jax.jit(lambda c: jax.lax.scan(body, c, None, STEPS)[1])(carry)
        return {name: jax.tree.map(np.asarray, x) for name, x in zip(names, seen, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_is_the_recursion_of_its_paper(name):
    trained, evaluated = trajectories()[name]
    want = CASES[name][1]()
    # At most 30 operations per step, with numbers up to 2.
    atol = 2 * roundings(30 * STEPS)
    assert_allclose(trained, [y for y, _ in want], rtol=0, atol=atol)
    assert_allclose(evaluated, [x for _, x in want], rtol=0, atol=4 * atol)


FREE = schedule_free(sgd(0.1), 0.1)
AHEAD = ema_nesterov(sgd(0.1))
SLOW = outer(sgd(0.1), scale(-0.5), 2)


def test_schedule_free_is_that_of_optax():
    """Optax's differs where the learning rate is a schedule: it evaluates the weights a step later."""
    other = optax.contrib.schedule_free(optax.sgd(0.1), 0.1, 0.8, 1.5)
    own = schedule_free(sgd(0.1), 0.1, 0.8, 1.5)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        ends = []
        for tx in (own, other):
            params = start = jnp.asarray(START)
            state = tx.init(start)

            def body(carry, _, tx=tx):
                params, state = carry
                u, state = tx.update(gradient(params), state, params)
                return (optax.apply_updates(params, u), state), None

            ends.append(jax.lax.scan(body, (params, state), None, 200)[0])
        (y, state), (want, theirs) = ends
        assert type(state) is type(theirs)
        # A constant rate contracts, so that roundings are forgotten.
        assert_allclose(y, want, rtol=0, atol=roundings(30 * 200))
        evaluated = optax.contrib.schedule_free_eval_params(state, y)
        assert_allclose(eval_params(own, y, state), evaluated, rtol=0, atol=roundings(30 * 200))


@pytest.mark.parametrize("tx", [FREE, AHEAD, SLOW], ids=str)
def test_a_narrow_parameter_is_evaluated_from_its_master_copy(tx):
    wide, narrow = jnp.asarray([1.0, -2.0]), jnp.asarray([1.0, -2.0], "bfloat16")
    g = jnp.asarray([1e-3, 1e-3])
    want = eval_params(tx, *train(tx, wide, [g] * 3))
    around = master_weights(tx)
    params, state = train(around, narrow, [g.astype("bfloat16")] * 3)
    got = eval_params(around, params, state, dtype="float32")
    # The gradient is rounded, and the copies lose one more rounding in each step.
    assert_allclose(got, want, rtol=0, atol=1e-3 * roundings(6, "bfloat16"))
    assert (got != params.astype("float32")).all()


@pytest.mark.parametrize("tx", [FREE, AHEAD, SLOW], ids=str)
def test_is_found_in_a_group_and_leaves_other_leaves_alone(tx):
    params = tree(shapes=SMALL) | {"steps": jnp.arange(2), "none": None}
    g = tree(seed=1, shapes=SMALL) | {"steps": None, "none": None}
    inside = chain(masked(tx, gradtx.by_rank(2)), gradtx.identity())
    params, state = train(inside, params, [g] * 3)
    got = eval_params(inside, params, state)
    assert got["steps"] is params["steps"] and got["none"] is None
    assert got["bias"] is params["bias"] and (got["kernel"] != params["kernel"]).all()


def test_after_every_outer_step_the_parameters_are_the_slow_ones():
    params, state = train(SLOW, tree(shapes=SMALL), [tree(seed=1, shapes=SMALL)] * 4)
    for slow, fast in zip(*map(jax.tree.leaves, (state.slow, params)), strict=True):
        assert_allclose(slow, fast, rtol=roundings(4, "float32"))


def test_the_inner_optimizer_starts_anew_after_an_outer_step_if_it_is_to():
    params = tree(shapes=SMALL)
    tx = outer(adamw(0.1), scale(-0.5), 2, reset_state=True)
    g = [tree(seed=1, shapes=SMALL)] * 4
    _, state = train(tx, params, g)
    exactly(state.inner, adamw(0.1).init(params))
    assert int(gradtx.get(train(tx, params, g[:3])[1].inner, "count")) == 1


def test_the_largest_state_is_what_the_method_needs():
    params = jnp.ones(5)
    for tx in (FREE, AHEAD, SLOW):
        assert sum(x.size > 1 for x in jax.tree.leaves(tx.init(params))) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda inner: schedule_free(inner, 0.1),
        lambda inner: outer(inner, scale(-0.5)),
        lambda inner: ema_nesterov(inner).init(jnp.ones(2)),
    ],
)
def test_refuses_an_iterate_inside_that_it_would_make_wrong(make):
    with pytest.raises(TypeError, match=r"changes these updates.*`averaged\(chain"):
        make(averaged(sgd(0.1)))


@pytest.mark.parametrize("tx", [FREE, AHEAD, SLOW], ids=str)
def test_what_follows_in_a_chain_is_refused_by_name(tx):
    with pytest.raises(TypeError, match=rf"`{type(tx).__name__}\(chain\(\.\.\.\)\)`"):
        chain(chain(tx), scale(0.5))


@pytest.mark.parametrize("tx", [FREE, SLOW], ids=str)
def test_says_that_it_needs_the_parameters(tx):
    with pytest.raises(ValueError, match=r"`update\(updates, state, params\)`"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


@pytest.mark.parametrize("taken", [1e7, 3e7])
def test_the_sum_of_the_weights_is_right_in_a_long_run(taken):
    """A plain sum in float32 grows by 1.2 or 0 times as much as it should at these numbers of steps."""
    weight, more = np.float32(0.0025) ** 2, 50_000
    tx = schedule_free(sgd(0.0025), 0.0025)
    state = tx.init(jnp.ones(()))
    state = state._replace(
        weight_sum=jnp.float32(taken * weight),
        step_count=jnp.int32(taken + 1),
        max_lr=jnp.float32(0.0025),
    )

    def step(state, _):
        return tx.update(jnp.zeros(()), state, jnp.ones(()))[1], None

    end = jax.jit(lambda state: jax.lax.scan(step, state, None, more)[0])(state).weight_sum
    # One unit in the last place of the sum is some of its summands.
    units = (float(end) - float(state.weight_sum) - more * float(weight)) / np.spacing(end)
    assert abs(units) < 16, units


def test_averages_of_a_learning_rate_of_zero_are_the_parameters():
    tx = schedule_free(sgd(0.0), 0.0)
    params, state = train(tx, jnp.ones(2), [jnp.ones(2)])
    assert eval_params(tx, params, state).tolist() == [1.0, 1.0]

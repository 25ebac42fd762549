"""`accumulate` and `every`: the means, when the inner optimizer runs, and Optax's numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from zoo import PARAMS, SMALL, exactly, full, tree, types

import gradtx
from gradtx import MultiSteps, accumulate, adam, adamw, chain, every, scale, sgd

GRADIENTS = [tree(seed=i, shapes=SMALL) for i in range(1, 9)]


def run(tx, gradients=GRADIENTS, params=PARAMS, **extra):
    """The updates of every step, parameters and state, by one compiled step."""
    step = jax.jit(tx.update)
    state, all_updates = tx.init(params), []
    for g in gradients:
        updates, state = step(g, state, params, **extra)
        params = gradtx.apply_updates(params, updates)
        all_updates.append(updates)
    return all_updates, params, state


def mean_of(gradients):
    """The mean in float64, rounded once."""
    mean = lambda *xs: np.mean([np.asarray(x, "float64") for x in xs], axis=0).astype("float32")
    return jax.tree.map(mean, *gradients)


def close(a, b):
    """Assert that means of a few numbers of about 1 agree: some roundings of 2**-24 each."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=2.0**-20), a, b)


def conditionals(f, *args):
    """The number of conditionals in the compiled program."""
    text = jax.jit(f).lower(*args).compile().as_text()
    assert text is not None
    return text.count(" conditional(")


def roots(f, *args):
    """How many square roots the branches of conditionals hold, and how many all else."""
    found = [0, 0]

    def walk(jaxpr, outside):
        for equation in jaxpr.eqns:
            found[outside] += equation.primitive.name == "sqrt"
            parts = jax.tree.leaves(list(equation.params.values()))
            for part in (getattr(x, "jaxpr", x) for x in parts):
                if hasattr(part, "eqns"):
                    walk(part, outside and equation.primitive.name != "cond")

    walk(jax.make_jaxpr(f)(*args).jaxpr, True)
    return tuple(found)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_equals_one_large_batch_to_rounding(k):
    updates, params, _ = run(accumulate(adamw(0.1), k))
    large = [mean_of(GRADIENTS[i : i + k]) for i in range(0, 8, k)]
    want_updates, want, _ = run(adamw(0.1), large)
    for i, u in enumerate(updates):
        if i % k == k - 1:
            # k roundings of the mean, and Adam's first step divides the mean by its own size.
            pairs = zip(*map(jax.tree.leaves, (u, want_updates[i // k])), strict=True)
            for x, y in pairs:
                np.testing.assert_allclose(x, y, rtol=0, atol=0.1 * 32 * k * 2.0**-23)
        else:
            assert all(np.all((x == 0) & np.signbit(x)) for x in jax.tree.leaves(u))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=0.1 * 2**-13), params, want)


def test_the_mean_is_taken_in_float32_and_may_be_a_sum():
    small, one = jnp.full((), 2.0**-9, "bfloat16"), jnp.ones((), "bfloat16")
    for mean, want in ((True, (1 + 7 * 2.0**-9) / 8), (False, 1 + 7 * 2.0**-9)):
        tx = accumulate(gradtx.identity(), 8, use_grad_mean=mean)
        state = tx.init(jnp.zeros((), "bfloat16"))
        assert state.acc_grads.dtype == jnp.float32
        u = one
        for g in (one, *7 * [small]):
            u, state = tx.update(g, state)
        # The updates are rounded once; a sum in bfloat16 would have stayed at 1.
        assert u == jnp.bfloat16(want) and u.dtype == jnp.bfloat16


def test_states_and_numbers_are_those_of_optax():
    got, _, state = run(MultiSteps(sgd(0.5, momentum=0.9), 3))
    with jax.numpy_dtype_promotion("standard"):
        want, _, other = run(optax.MultiSteps(optax.sgd(0.5, momentum=0.9), 3))
    assert type(state) is type(other) and state.mini_step == other.mini_step == 2
    assert state.gradient_step == other.gradient_step == 2
    pairs = zip(
        *map(jax.tree.leaves, ((got, state.acc_grads), (want, other.acc_grads))), strict=True
    )
    for x, y in pairs:
        np.testing.assert_allclose(x, y, rtol=0, atol=16 * 2.0**-23)
    tx = MultiSteps(sgd(0.1), 2, True, optax.skip_not_finite)
    assert tx == accumulate(sgd(0.1), 2, drop_nonfinite=True) == tx.gradient_transformation()
    with pytest.raises(TypeError, match="skip_spikes"):
        MultiSteps(sgd(0.1), 2, should_skip_update_fn=lambda *args: None)


def test_a_schedule_of_k_counts_the_steps_that_were_taken():
    for k in (lambda n: 1 + n, gradtx.linear_schedule(1, 3, 2)):
        tx = accumulate(sgd(1.0), k)
        state, took = tx.init(PARAMS), []
        for g in GRADIENTS[:6]:
            _, state = tx.update(g, state)
            took.append(bool(tx.has_updated(state)))
        assert took == [True, False, True, False, False, True]


def test_the_inner_optimizer_is_in_one_branch_of_the_program_also_in_a_sweep():
    def train(rate, wraps):
        tx = wraps(adam(rate))
        body = lambda state, g: tx.update(g, state, PARAMS)[::-1]
        return jax.lax.scan(body, tx.init(PARAMS), GRADIENTS_STACKED)[1]

    rates = jnp.array([0.1, 0.2])
    for wraps in (
        lambda tx: accumulate(tx, 4),
        lambda tx: accumulate(tx, 4, drop_nonfinite=True),
        lambda tx: every(4, tx),
    ):
        one = functools.partial(train, wraps=wraps)
        assert conditionals(one, rates[0]) >= 1 and conditionals(jax.vmap(one), rates) >= 1
        for inside, outside in (roots(one, rates[0]), roots(jax.vmap(one), rates)):
            assert (
                inside >= 1 and outside == 0
            )  # Adam takes a root of each leaf, and nothing else does
        got, alone = jax.vmap(one)(rates), one(rates[1])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, atol=1e-6), got, alone)


def test_both_branches_run_where_every_member_has_its_own_number_of_micro_batches():
    """So the test above can fail."""
    tx = lambda k: accumulate(adam(0.1), k)
    step = lambda k: tx(k).update(GRADIENTS[0], tx(k).init(PARAMS), PARAMS)[0]
    inside, outside = roots(jax.vmap(step), jnp.array([2, 4]))
    assert inside == 0 and outside >= 1


GRADIENTS_STACKED = jax.tree.map(lambda *xs: jnp.stack(xs), *GRADIENTS)


def test_runs_the_inner_optimizer_on_the_last_micro_batch_alone():
    calls = []

    def seen(updates, state, params=None, **extra):
        jax.debug.callback(lambda: calls.append(1))
        return updates, state

    counted = optax.GradientTransformation(lambda params: optax.EmptyState(), seen)
    for tx in (accumulate(counted, 4), every(4, counted)):
        calls.clear()
        run(tx)
        jax.effects_barrier()
        assert len(calls) == 2


def test_a_bad_micro_batch_is_dropped_and_counted():
    bad = jax.tree.map(jnp.copy, GRADIENTS[1]) | {"bias": jnp.array([1.0, jnp.inf, 0.0])}
    given = [GRADIENTS[0], bad, GRADIENTS[2], GRADIENTS[3]]
    tx = accumulate(gradtx.identity(), 4, drop_nonfinite=True)
    updates, _, state = run(tx, given)
    want = mean_of([given[i] for i in (0, 2, 3)])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=4 * 2.0**-23), updates[-1], want
    )
    assert gradtx.readings(state)["dropped"] == 1
    # If none is left, no step is taken, and parameters and state do not change.
    tx = accumulate(adamw(0.1), 2, drop_nonfinite=True)
    _, params, state = run(tx, [bad, bad])
    exactly(params, PARAMS)
    exactly(state.inner_opt_state, tx.init(PARAMS).inner_opt_state)
    assert state.gradient_step == 0 and state.mini_step == 0
    # Without it, the mean shows what is wrong, and nothing before it does.
    updates, _, _ = run(accumulate(sgd(0.1), 2), [bad, GRADIENTS[0]])
    assert np.all(updates[0]["bias"] == 0) and not np.isfinite(updates[1]["bias"]).all()


def test_stands_inside_a_chain_and_around_it_and_hands_on_extra_arguments():
    around = accumulate(chain(scale(2.0), sgd(0.1)), 2)
    inside = chain(scale(2.0), accumulate(sgd(0.1), 2))
    exactly(run(around)[0][3], run(inside)[0][3])
    got, _, state = run(accumulate(gradtx.reduce_on_plateau(), 2), value=jnp.float32(3.0))
    close(got[1], mean_of(GRADIENTS[:2]))
    assert gradtx.get(state, "best_value") == 3.0
    optimizer = accumulate(optax.polyak_sgd(), 2)
    assert all(
        np.isfinite(x).all() for x in jax.tree.leaves(run(optimizer, value=jnp.float32(1))[1])
    )


def test_eval_params_finds_an_average_inside():
    tx = accumulate(gradtx.averaged(sgd(1.0), gradtx.mean_weight()), 2)
    _, params, state = run(tx, GRADIENTS[:4])
    moves = [mean_of(GRADIENTS[i : i + 2]) for i in (0, 2)]
    want = jax.tree.map(lambda p, a, b: p - a - 0.5 * b, PARAMS, *moves)
    got = gradtx.eval_params(tx, params, state)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=16 * 2.0**-23), got, want)


def test_every_runs_on_every_kth_step_and_keeps_its_state_between():
    updates, _, state = run(every(2, sgd(1.0, momentum=0.5)), [full(1.0, shapes=SMALL)] * 4)
    assert [float(u["bias"][0]) for u in updates] == [0.0, -1.0, 0.0, -1.5]
    assert state.gradient_step == 2 and state.mini_step == 0
    passed, _, _ = run(every(2, scale(3.0), otherwise="pass"), [full(1.0, shapes=SMALL)] * 2)
    assert [float(u["bias"][0]) for u in passed] == [1.0, 3.0]


def test_the_state_keeps_its_type_and_is_checked():
    tx = accumulate(adam(0.1), 2)
    state = tx.init(PARAMS)
    assert types(tx.update(GRADIENTS[0], state)[1]) == types(state)
    for make in (lambda: accumulate(adam(0.1), 0), lambda: every(0.5, adam(0.1))):
        with pytest.raises(ValueError, match=r"\[1, inf\)"):
            make()
    with pytest.raises(ValueError, match="'zero' or 'pass'"):
        every(2, adam(0.1), otherwise="keep")  # pyright: ignore[reportArgumentType]
    assert repr(every(2, sgd(0.1))) == "every(2.0, sgd(0.1))"

"""A state that does not belong to an optimizer is refused, and the message lists what differs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import adam, adamw, chain, clip, partition, sgd

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}


def said(tx, state, params=PARAMS):
    """What the error says, with its notes, when a step is traced with this state."""
    with pytest.raises((ValueError, TypeError)) as caught:
        jax.eval_shape(lambda: tx.update(params, state, params))
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_a_state_of_another_optimizer_is_compared_array_by_array():
    message = said(adamw(0.1), adam(0.1).init(PARAMS))
    assert "`init` of `adamw(0.1)` makes for these parameters" in message
    assert "\n  - `2/step` is missing (int32[])\n" in message
    assert "\n  - `1/step` is not expected (int32[])\n" in message
    assert "`0/mu" not in message, "what fits is not listed"
    assert "gradtx.migrate(state, tx, params)" in message
    message = said(chain(clip(1.0), sgd(0.1, 0.9)), sgd(0.1, 0.9).init(PARAMS))
    assert "`1/0/trace/kernel` is missing (float32[2, 3])" in message
    assert "`0/trace/kernel` is not expected (float32[2, 3])" in message


def test_a_state_of_other_parameters_is_compared_array_by_array():
    state = adamw(0.1).init({"kernel": jnp.ones((3, 3)), "b": jnp.ones(3)})
    message = said(adamw(0.1), state)
    assert "`0/nu/kernel` has shape (3, 3) instead of (2, 3)" in message
    assert "`0/nu/bias` is missing" in message and "`0/nu/b` is not expected" in message
    labels = [{"kernel": a, "bias": b} for a, b in ("ab", "ba")]
    first, second = (partition({"a": adam(0.1), "b": gradtx.freeze()}, x) for x in labels)
    message = said(first, second.init(PARAMS))
    assert "`inner_states/a/inner_state/0/mu/kernel` is missing (float32[2, 3])" in message
    many = {f"w{i}": jnp.ones(1) for i in range(40)}
    message = said(adam(0.1), adam(0.1).init({}), many)
    assert "and 60 more" in message and len(message.splitlines()) < 30


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (3, 2), (4, 2, 3)], ids=str)
def test_an_array_that_could_be_broadcast_is_not(shape):
    adam_state, *rest = adamw(0.1).init(PARAMS)
    mu = PARAMS | {"kernel": jnp.ones(shape)}
    message = said(adamw(0.1), (adam_state._replace(mu=mu), *rest))
    assert f"`0/mu/kernel` has shape {shape} instead of (2, 3)" in message


def test_a_counter_that_could_be_broadcast_is_not():
    params = {"bias": jnp.ones(3)}
    for tx, name, path in ((adamw(0.1), "count", "0/count"), (adamw(0.1), "step", "2/step")):
        state = tx.init(params)
        at = int(path[0])
        state = (
            *state[:at],
            state[at]._replace(**{name: jnp.zeros(3, jnp.int32)}),
            *state[at + 1 :],
        )
        message = said(tx, state, params)
        assert f"`{path}` has shape (3,) instead of ()" in message and "`jax.vmap`" in message


def test_whole_numbers_in_the_place_of_fractions_are_refused():
    adam_state, *rest = adamw(0.1).init(PARAMS)
    mu = jax.tree.map(lambda x: np.zeros(x.shape, np.int32), PARAMS)
    state = adam_state._replace(mu=mu), *rest
    with jax.numpy_dtype_promotion("standard"):
        message = said(adamw(0.1), state)
    assert "returned float32 for `mu` of its state, and the old `mu` is int32" in message
    for text in (message, said(adamw(0.1), state)):
        assert "`0/mu/kernel` has dtype int32 instead of float32" in text


def test_lists_and_dictionaries_of_a_checkpoint_are_named_as_such():
    (count, mu, nu), _, (step, rate) = adamw(0.1).init(PARAMS)
    state = [
        {"count": count, "mu": mu, "nu": nu},
        {},
        {"step": step, "last_learning_rate": rate},
    ]
    message = said(adamw(0.1), state)
    assert "the arrays are right, but their containers are not" in message
    assert "`jax.eval_shape(tx.init, params)`" in message


def test_a_right_state_costs_no_comparison(monkeypatch):
    """The comparison is made after a step has failed, so that a step that works never pays for it."""
    monkeypatch.setattr("gradtx._core.wrong_call.differences", None)
    state = adamw(0.1).init(PARAMS)
    adamw(0.1).update(PARAMS, state, PARAMS)
    adamw(0.1).update(PARAMS, (*state[:1], optax.EmptyState(), *state[2:]), PARAMS)

"""The leading entry of a competition between optimizers, which is one value and trains a transformer."""

import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import gradtx

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def record(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import record

    yield record
    for name in ("record", "char_lm"):
        sys.modules.pop(name)


def test_the_entry_is_one_value_that_fits_the_transformer(record):
    tx = record.record(0.02, 40)
    assert gradtx.parse(repr(tx)) == tx
    make = lambda key: record.CharLM(90, 16, 16, 1, key=key)
    params = eqx.filter_eval_shape(make, jax.random.key(0))
    params = eqx.filter(params, lambda x: isinstance(x, jax.ShapeDtypeStruct))
    state = jax.eval_shape(tx.init, params)
    updates, new = jax.eval_shape(tx.update, params, state, params)
    assert updates == params and new == state
    routes = {route.path: route.label for route in gradtx.routing(tx, params)}
    assert routes["blocks/0/up/weight"] == "muon" and routes["embed/weight"] == "adamw"


def test_gradients_are_taken_ahead_but_not_in_the_first_and_the_last_steps(record):
    steps = 90
    beta = record.record(0.02, steps).inner.beta
    values = [float(beta(t)) for t in range(steps + 1)]
    assert not any(values[:10]) and not any(values[84:])
    assert all(abs(values[t] - 0.3 * (1 - t / steps)) < 1e-6 for t in range(10, 84))


def test_the_entry_trains_a_network_that_sees_two_characters(record):
    """A program with one hidden matrix compiles in a fraction of the time of the transformer."""
    text, _, alphabet = record.encode(record.python_reference())
    text, count, steps = jnp.asarray(text), len(alphabet), 60
    tx = record.record(0.02, steps, 0.02)
    sizes = {"embed": (count, 8), "hidden/kernel": (16, 16), "head": (16, count)}
    keys = jax.random.split(jax.random.key(0), 3)
    start = {
        name: 0.2 * jax.random.normal(key, size)
        for (name, size), key in zip(sizes.items(), keys, strict=True)
    }

    def loss(params, windows):
        x = params["embed"][windows[:, :2]].reshape(-1, 16)
        logits = jnp.tanh(x @ params["hidden/kernel"]) @ params["head"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), windows[:, 2:], axis=-1).mean()

    def step(carry, key):
        params, state = carry
        windows = record.windows_at(text, jax.random.randint(key, (64,), 0, len(text) - 3), 2)
        value, gradients = jax.value_and_grad(loss)(params, windows)
        updates, state = tx.update(gradients, state, params)
        return (gradtx.apply_updates(params, updates), state), value

    @jax.jit
    def run(params):
        carry = params, tx.init(params)
        (params, state), losses = jax.lax.scan(step, carry, jax.random.split(keys[0], steps))
        return params, record.evaluated(tx, params, state), losses

    params, shown, losses = run(start)
    # Guessing costs 4.6 nats, knowing how often each character comes 3.1.
    assert losses[0] > 4.4 and losses[-10:].mean() < 3.3, losses
    assert (shown["embed"] == params["embed"]).all()  # it is not averaged
    assert (shown["hidden/kernel"] != params["hidden/kernel"]).any()

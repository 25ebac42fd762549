"""`skip_spikes`: the averages of the norm, what is a spike, and what it leaves unchanged."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

import gradtx
from gradtx import sgd, skip_spikes


def run(tx: Any, norms: Any, **extra: Any) -> Any:
    """The updates and the state after every step, for gradients of these norms."""
    step = jax.jit(tx.update)
    state, updates, states = tx.init(jnp.zeros(2)), [], []
    for x in norms:
        u, state = step(jnp.array([0.6, 0.8]) * x, state, **{k: jnp.float32(x) for k in extra})
        updates.append(float(np.linalg.norm(np.asarray(u, "float64"))))
        states.append(state)
    return updates, states


def recurrence(values, z=6.0, decay=0.99, warmup=100):
    """The docstring's rule in float64: whether each value is a spike, the mean and the deviation."""
    mean, variance, found = 0.0, 0.0, []
    for count, x in enumerate(values):
        spread = max(np.sqrt(variance), 0.01 * abs(mean))
        known = count >= warmup and spread > 0
        spike = known and x > mean + z * spread
        x = min(x, mean + z * spread) if known else x
        rate = max(1 - decay, 1 / (count + 1))
        mean, variance = mean + rate * (x - mean), (1 - rate) * (variance + rate * (x - mean) ** 2)
        found.append((spike, mean, np.sqrt(variance)))
    return found


def test_spikes_and_averages_are_those_of_the_rule():
    rng = np.random.default_rng(0)
    norms = rng.uniform(0.5, 1.5, 60)
    norms[[30, 45]] = 20.0, 5.0
    kwargs: dict[str, Any] = {"z": 4.0, "decay": 0.9, "warmup": 10}
    updates, states = run(skip_spikes(sgd(1.0), **kwargs), norms)
    want = recurrence(norms, **kwargs)
    assert [u == 0 for u in updates] == [bool(spike) for spike, _, _ in want]
    assert int(states[-1].skipped) == sum(spike for spike, _, _ in want) == 2
    for state, (_, mean, deviation) in zip(states, want, strict=True):
        # The averages forget the roundings of all but some ten steps.
        np.testing.assert_allclose(state[1:3], (mean, deviation), rtol=1e-5, atol=1e-6)


def test_a_skipped_step_keeps_the_inner_state_and_is_counted():
    tx = skip_spikes(gradtx.adam(0.1), warmup=5)
    updates, states = run(tx, [1.0, 1.1, 0.9, 1.0, 1.0, 1e30, 1.0])
    assert updates[5] == 0 and updates[6] > 0
    for x, y in zip(
        *map(jax.tree.leaves, (states[4].inner_state, states[5].inner_state)), strict=True
    ):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert gradtx.readings(states[-1])["skipped"] == 1


def test_follows_a_level_that_has_risen_for_good_and_does_not_skip_during_warmup():
    tx = skip_spikes(sgd(1.0), decay=0.9, warmup=10)
    updates, states = run(tx, [1.0] * 20 + [10.0] * 40)
    assert updates[20] == 0 and updates[-1] == pytest.approx(10)
    assert 1 <= states[-1].skipped < 20
    assert run(tx, [1.0, 100.0])[0][1] == pytest.approx(100)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_a_spike_from_the_first_step_on(value):
    updates, states = run(skip_spikes(sgd(1.0)), [value, 1.0, value])
    assert updates == [0, pytest.approx(1), 0]
    assert states[-1].skipped == 2 and states[-1].count == 1 and np.isfinite(states[-1][1:3]).all()


def test_gradients_of_every_finite_size_keep_the_averages_finite():
    for decay in (0.0, 0.5, 0.99):
        for norms in ([3e38, 1e-38, 3e38, 0.0], [0.0, 0.0, 3e38], [1e-45, 1.0, 3e38, 3e38]):
            _, states = run(skip_spikes(sgd(1.0), decay=decay, warmup=1), norms)
            assert np.isfinite([x[1:3] for x in states]).all()
    # After zeros alone the first gradient is not a spike.
    assert run(skip_spikes(sgd(1.0), warmup=1), [0.0, 0.0, 1.0])[0][2] > 0


def test_watches_the_loss():
    tx = skip_spikes(sgd(1.0), warmup=3, of="value")
    updates, _ = run(tx, [2.0, 2.1, 1.9, 9.0, 2.0], value=True)
    assert [u == 0 for u in updates] == [False, False, False, True, False]
    with pytest.raises(ValueError, match="value=loss"):
        tx.update(jnp.zeros(2), tx.init(jnp.zeros(2)))
    wrong: list[dict[str, Any]] = [{"warmup": 0}, {"z": 0.0}, {"decay": 1.0}, {"of": "loss"}]
    for arguments in wrong:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            skip_spikes(sgd(1.0), **arguments)


def test_all_devices_skip_the_same_spikes():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    tx = skip_spikes(sgd(1.0), warmup=2, axis_name="d")
    place = lambda x: jax.device_put(x, NamedSharding(mesh, P("d")))

    def train(params, direction):
        body = lambda state, size: tx.update(direction * size, state, params)[::-1]
        state, updates = jax.lax.scan(body, tx.init(params), jnp.array([1.0, 1.1, 0.9, 50.0]))
        return updates, state.skipped, state.mean  # replicated, and so without an axis of the mesh

    specs = P("d"), P("d")
    mapped = jax.shard_map(train, mesh=mesh, in_specs=specs, out_specs=(P(None, "d"), P(), P()))
    direction = jnp.array([0.0, 0.0, 0.6, 0.8])  # one device alone sees the spike
    updates, skipped, mean = jax.jit(mapped)(place(jnp.zeros(4)), place(direction))
    assert skipped == 1 and np.all(updates[3] == 0)
    (_, want, _) = recurrence([1.0, 1.1, 0.9, 50.0], warmup=2)[-1]
    np.testing.assert_allclose(mean, want, rtol=1e-5)

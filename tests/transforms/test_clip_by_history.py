"""Clipping by earlier norms: the papers' recurrences in float64, and what must not enter the history."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from rounding import roundings

import gradtx
from gradtx import clip_by_average_norm, clip_by_percentile, clip_by_z_score

NORMS = np.random.default_rng(0).lognormal(sigma=0.3, size=80)
NORMS[[30, 45, 46]] = 20.0, 5.0, 400.0
DIRECTION = np.array([0.6, 0.8])


@jax.jit
def step(tx, g, state):
    return tx.update(g, state)


def run(tx, norms, dtype="float64"):
    """The norms of the updates, and the states, for gradients of these norms: a number or a tree."""
    with jax.enable_x64(dtype == "float64"):
        gradient = lambda x: jax.tree.map(lambda n: jnp.asarray(DIRECTION * n, dtype), x)
        norms = list(norms)
        state, seen, states = tx.init(gradient(norms[0])), [], []
        for x in norms:
            u, state = step(tx, gradient(x), state)
            seen.append(jax.tree.map(lambda u: float(np.linalg.norm(np.asarray(u, "f8"))), u))
            states.append(jax.tree.map(np.asarray, state))
        return seen, states


def z_clip(norms, z=2.5, decay=0.97, warmup=25):
    """Kumar et al. (2025), arXiv:2504.02507, Algorithm 1: clipped norms, averages and deviations."""
    out, mean, variance, found = [], 0.0, 0.0, []
    for t, x in enumerate(norms, 1):
        if t <= warmup:
            mean, variance = np.mean(norms[:t]), np.var(norms[:t])
        else:
            score = (x - mean) / np.sqrt(variance)
            x = mean + z**2 / score * np.sqrt(variance) if score > z else x
            mean = decay * mean + (1 - decay) * x
            variance = decay * variance + (1 - decay) * (x - mean) ** 2
        out.append(x)
        found.append((mean, np.sqrt(variance)))
    return np.array(out), np.array(found)


@pytest.mark.parametrize("settings", [{}, {"z": 1.5, "decay": 0.8, "warmup": 10}])
def test_z_score_is_that_of_the_paper(settings):
    got, states = run(clip_by_z_score(**settings), NORMS)
    want, averages = z_clip(NORMS, **settings)
    # A deviation is a difference of norms, so it has lost their leading digit.
    np.testing.assert_allclose(got, want, rtol=roundings(1000))
    np.testing.assert_allclose([x[1:3] for x in states], averages, rtol=0, atol=roundings(1000))
    clipped = np.sum(want < NORMS * (1 - 1e-9))
    assert states[-1].clipped == gradtx.readings(states[-1])["clipped"] == clipped >= 3


def test_percentile_is_that_of_numpy():
    """Seetharaman et al. (2020), arXiv:2007.14469, Algorithm 1, over a window of the last norms."""
    for percentile, window in ((10.0, 128), (90.0, 16), (0.0, 5), (100.0, 5), (50.0, 1)):
        got, states = run(clip_by_percentile(percentile, window), NORMS)
        last = [NORMS[max(0, t - window) : t] for t in range(1, len(NORMS) + 1)]
        want = np.minimum(NORMS, [np.percentile(x, percentile) for x in last])
        np.testing.assert_allclose(got, want, rtol=roundings(20))
        # A norm that is the percentile itself may be above it by a rounding.
        assert abs(states[-1].clipped - np.sum(want < NORMS)) <= window * (percentile == 100)


def ada_gc(trees, factor=1.05, decay=0.98, warmup=100, max_norm=1.0):
    """Wang et al. (2025), arXiv:2502.11034, Algorithm 1: clipped norms and averages, a row per step."""
    averages, out, found = np.full(2, np.nan), [], []
    for t, norms in enumerate(trees):
        if t < warmup:
            norms = norms * min(1.0, max_norm / np.sqrt(np.sum(norms**2)))
            averages = np.fmin(averages, norms)
        else:
            norms = np.minimum(norms, factor * averages)
            averages = decay * averages + (1 - decay) * norms
        out.append(norms)
        found.append(averages)
    return np.array(out), np.array(found)


@pytest.mark.parametrize("settings", [{"warmup": 20}, {"factor": 2.0, "decay": 0.5, "warmup": 1}])
def test_average_norm_is_that_of_the_paper_for_every_leaf(settings):
    norms = np.stack([NORMS, NORMS[::-1] / 10], 1)
    got, states = run(clip_by_average_norm(**settings), [{"a": a, "b": b} for a, b in norms])
    want, averages = ada_gc(norms, **settings)
    np.testing.assert_allclose([[u["a"], u["b"]] for u in got], want, rtol=roundings(400))
    seen = [[s.norms["a"], s.norms["b"]] for s in states]
    np.testing.assert_allclose(seen, averages, rtol=roundings(400))
    clipped = np.sum(want < norms * (1 - 1e-9), axis=0)
    last = states[-1].clipped
    assert [last["a"], last["b"]] == clipped.tolist() and min(clipped) > 0
    assert float(gradtx.readings(states[-1])["clipped"]) == sum(clipped)


ALL = [clip_by_z_score(warmup=3), clip_by_percentile(50.0, 4), clip_by_average_norm(warmup=2)]
ALL += [clip_by_average_norm(warmup=0)]
every = pytest.mark.parametrize("tx", ALL, ids=repr)


@every
def test_a_gradient_that_is_not_finite_is_not_hidden_and_does_not_enter_the_history(tx):
    for bad in (np.nan, np.inf):
        for norms in ([1.0, 1.2, 0.9, 1.1, bad, 1.3], [bad, 1.0, 1.2, 0.9, 1.1, 1.3]):
            got, states = run(tx, norms, "float32")
            want, good = run(tx, [x for x in norms if np.isfinite(x)], "float32")
            assert not np.isfinite(got.pop(norms.index(bad)))
            warming = isinstance(tx, clip_by_average_norm) and tx.warmup and bad is norms[0]
            if not warming:  # a step of its warm-up counts, whatever the gradient is
                assert got == want
                for x, y in zip(states[-1][1:], good[-1][1:], strict=True):
                    np.testing.assert_array_equal(x, y)


@every
def test_the_history_stays_finite_for_gradients_of_every_finite_size(tx):
    largest = float(np.finfo("f4").max)
    for norms in ([largest, 1e-38, largest, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, largest], [1e-45, 1.0]):
        got, states = run(tx, norms, "float32")
        assert np.all(np.isfinite(got))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(states))


@every
def test_gradients_that_were_0_at_first_are_not_clipped_to_0_for_ever(tx):
    got, _ = run(tx, [0.0] * 5 + [1.0] * 5)
    assert got[-1] == pytest.approx(1.0)


def test_a_percentile_follows_norms_that_rise_for_good_and_a_z_score_may_not():
    norms = [*NORMS[:25], *(10.0 * np.resize(NORMS[:25], 100))]
    stuck, states = run(clip_by_z_score(), norms)
    assert max(stuck[-25:]) < 0.2 * max(norms[-25:])
    assert states[-1].clipped == 100
    follows, _ = run(clip_by_percentile(90.0, 50), norms)
    assert np.mean(np.array(follows[-25:]) < norms[-25:]) < 0.2


@pytest.mark.parametrize("size", [1.2, 1e30])
@every
def test_a_spike_is_clipped_also_if_all_norms_before_it_were_equal(tx, size):
    got, states = run(tx, [1.0] * 8 + [size] + [1.0] * 4, "float32")
    clipped = gradtx.readings(states[-1])["clipped"] - gradtx.readings(states[7])["clipped"]
    assert 0.999 <= got[8] <= 1.1 and clipped == 1
    np.testing.assert_allclose(got[9:], 1, rtol=roundings(8, "float32"))


def test_a_z_score_allows_norms_to_differ_by_a_hundredth_of_their_average_at_least():
    _, states = run(clip_by_z_score(z=2.0, warmup=3), [1.0, 1.0, 1.0, 1.019, 1.03])
    assert [int(state.clipped) for state in states] == [0, 0, 0, 0, 1]


def test_all_devices_clip_by_the_same_norms():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    place = lambda x: jax.device_put(x, NamedSharding(mesh, P("d")))
    sizes = jnp.array([1.0, 1.1, 0.9, 50.0])
    for make in (clip_by_z_score, clip_by_percentile, clip_by_average_norm):
        options = {} if make is clip_by_percentile else {"warmup": 2}

        def train(tx, params, direction):
            body = lambda state, size: tx.update(direction * size, state, params)[::-1]
            return jax.lax.scan(body, tx.init(params), sizes)

        # The state is replicated, since the devices agree on the norm. One of them alone sees the spike.
        specs = (P("d"), P("d")), (P(), P(None, "d"))
        over_mesh = make(**options, axis_name="d")
        inside = lambda *args, tx=over_mesh: train(tx, *args)
        mapped = jax.shard_map(inside, mesh=mesh, in_specs=specs[0], out_specs=specs[1])
        direction = jnp.array([0.0, 0.0, 0.6, 0.8])
        got = jax.jit(mapped)(place(jnp.zeros(4)), place(direction))
        want = jax.jit(train)(make(**options), jnp.zeros(4), direction)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, want)


def test_every_device_has_a_history_of_its_own_where_its_gradients_are_its_own():
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    for tx in ALL[:3]:
        train = lambda g, tx=tx: jax.lax.scan(
            lambda state, x: tx.update(x, state)[::-1], tx.init(g[0]), g
        )[1]
        gradients = jnp.asarray(NORMS[26:34].reshape(2, 4, 1), "float32")
        inside = lambda g, train=train: train(g[0])[None]
        mapped = jax.shard_map(inside, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        got = jax.jit(mapped)(jax.device_put(gradients, NamedSharding(mesh, P("d"))))
        np.testing.assert_allclose(got, [jax.jit(train)(g) for g in gradients], rtol=1e-6)


def test_wrong_numbers_are_errors_that_name_the_argument():
    wrong: list[tuple[Any, Any]] = [
        (clip_by_z_score, {"z": 0.0}),
        (clip_by_z_score, {"warmup": 0}),
        (clip_by_percentile, {"percentile": 101.0}),
        (clip_by_percentile, {"window": 0}),
        (clip_by_average_norm, {"decay": 1.0}),
        (clip_by_average_norm, {"warmup": -1}),
    ]
    for make, arguments in wrong:
        with pytest.raises(ValueError, match=f"{make.__name__}.{next(iter(arguments))}"):
            make(**arguments)


def test_a_gradient_of_zero_while_it_warms_up_is_not_the_smallest_norm():
    tx = clip_by_average_norm(2.0, warmup=3, max_norm=10.0)
    _, states = run(tx, [1.0, 0.0, 4.0])
    assert [float(state.norms) for state in states] == [1.0, 1.0, 1.0]

"""Taps do not change an update, cost nothing while they are off, and keep the structure of the state."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from jax.sharding import NamedSharding, PartitionSpec as P
from zoo import GRADIENT, PARAMS, SMALL, exactly, same, tree, types

import gradtx
from gradtx import (
    adamw,
    by_path,
    by_rank,
    chain,
    clip_by_global_norm,
    constant,
    fanout,
    identity,
    masked,
    norm,
    observe,
    partition,
    readings,
    scale,
    scale_by_momentum,
    sgd,
    tap,
    update_ratio,
)


def step(tx, g=GRADIENT, params=PARAMS, **extra):
    """The updates and the readings of a first step."""
    updates, state = tx.update(g, tx.init(params), params, **extra)
    return updates, {name: float(x) for name, x in readings(state).items()}


def size(tree):
    return float(gradtx.global_norm(tree))


def test_norms_before_and_after_clipping_in_one_obvious_way():
    tx = chain(tap("grads"), clip_by_global_norm(0.5), tap("clipped"), adamw(1e-3), tap("updates"))
    updates, got = step(tx)
    want = {
        "grads/global_norm": size(GRADIENT),
        "clipped/global_norm": 0.5,
        "updates/global_norm": size(updates),
    }
    assert got.pop("learning_rate") == np.float32(1e-3) and got.keys() == want.keys()
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, rtol=1e-6)


class tapped_sgd(gradtx.Recipe):
    """A user's recipe with a tap in its definition."""

    learning_rate: gradtx.Hyper = 0.5

    def expand(self):
        return chain(tap("inside"), gradtx.scale_by_learning_rate(self.learning_rate))


class doubled(gradtx.Wrapper):
    """A user's wrapper that calls its inner transformation itself."""

    def update_tree(self, updates, state, params, extra):
        updates, state = self.inner.update_tree(updates, state, params, extra)
        return jax.tree.map(
            lambda u: None if u is None else 2 * u, updates, is_leaf=lambda x: x is None
        ), state


@pytest.mark.parametrize(
    "tx, plain, want",
    [
        (fanout("add", chain(scale(2.0), tap("t")), identity()), scale(3.0), 2.0),
        (chain(scale(2.0), tap("t")) / chain(scale(4.0), tap("u")), constant(0.5), 2.0),
        (masked(chain(tap("t"), scale(2.0)), by_rank(2)), masked(scale(2.0), by_rank(2)), 1.0),
        (gradtx.cautious(chain(scale(3.0), tap("t"))), scale(3.0), 3.0),
        (tapped_sgd(), sgd(0.5), 1.0),
        (doubled(chain(scale(2.0), tap("t"))), scale(4.0), 2.0),
        (chain(scale(3.0), tap("t"), constant(2.0)), constant(2.0), 3.0),
        (chain(optax.scale(3.0), tap("t")), scale(3.0), 3.0),
        (chain(clip_by_global_norm(1e9), tap("t"), clip_by_global_norm(1e9)), identity(), 1.0),
        (chain(tap("s"), tap("t"), optax.identity()), identity(), 1.0),
    ],
)
def test_a_tap_may_stand_anywhere(tx, plain, want):
    for update in (
        lambda tx: step(tx),
        jax.jit(lambda tx: tx.update(GRADIENT, tx.init(PARAMS), PARAMS)),
    ):
        updates, found = update(tx)
        found = found if isinstance(found, dict) else readings(found)
        jax.tree.map(np.testing.assert_array_equal, updates, zoo.updated(plain))
        got = [x for name, x in found.items() if name in ("t/global_norm", "inside/global_norm")]
        seen = GRADIENT if "masked" not in repr(tx) else GRADIENT["kernel"]
        np.testing.assert_allclose(got, [want * size(seen)], rtol=1e-6)


def test_taps_of_one_name_in_a_partition_are_told_apart_by_the_labels():
    rule = by_path({"kernel": "a"}, otherwise="b")
    tx = partition({"a": chain(tap("t"), sgd(0.1)), "b": chain(tap("t"), sgd(0.2))}, rule)
    _, got = step(tx)
    want = {"a/t/global_norm": size(GRADIENT["kernel"]), "b/t/global_norm": size(GRADIENT["bias"])}
    want |= {"a/learning_rate": np.float32(0.1), "b/learning_rate": np.float32(0.2)}
    assert got == pytest.approx(want, rel=1e-6)


def program(tx):
    """The optimized program of a step, without the names of source lines and of arguments."""
    state = jax.eval_shape(tx.init, PARAMS)
    leaves, structure = jax.tree.flatten((GRADIENT, state, PARAMS))

    def step(*leaves):
        return jax.tree.leaves(tx.update(*structure.unflatten(leaves)))

    text = jax.jit(step).lower(*leaves).compile().as_text()
    return re.sub(r", metadata=\{[^}]*\}", "", text[text.index("\n%") :])


@pytest.mark.parametrize(
    "off, plain",
    [
        (
            chain(
                tap("a", active=False), clip_by_global_norm(0.5), tap("b", active=False), adamw(0.1)
            ),
            chain(clip_by_global_norm(0.5), adamw(0.1)),
        ),
        (observe(adamw(0.1), active=False), adamw(0.1)),
        (
            gradtx.replace(chain(tap("a"), sgd(0.1, momentum=0.9)), active=False),
            sgd(0.1, momentum=0.9),
        ),
    ],
)
def test_taps_that_are_off_keep_no_state_and_leave_the_program_as_it_is(off, plain):
    assert program(off) == program(plain)
    arrays = [jax.tree.leaves(tx.init(PARAMS)) for tx in (off, plain)]
    assert list(map(types, arrays[0])) == list(map(types, arrays[1]))
    on = gradtx.replace(off, active=True)
    assert program(on) != program(plain)


def test_readings_hold_in_scan_and_vmap_without_a_callback_or_a_second_trace():
    tx, traces = chain(tap("g", (norm(), update_ratio())), sgd(0.1), tap("u")), []

    @jax.jit
    def train(tx, factor):
        traces.append(tx)

        def body(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (gradtx.apply_updates(params, updates), state), state

        g = jax.tree.map(lambda x: factor * jnp.stack([x, 2 * x]), GRADIENT)
        return readings(jax.lax.scan(body, (PARAMS, tx.init(PARAMS)), g)[1])

    over_time = train(tx, 1.0)
    train(gradtx.replace(tx, learning_rate=0.2), 1.0)
    assert len(traces) == 1
    np.testing.assert_allclose(
        over_time["g/global_norm"], size(GRADIENT) * np.array([1, 2]), rtol=1e-6
    )
    factors = jnp.array([1.0, 3.0])
    both = jax.vmap(train, in_axes=(None, 0))(tx, factors)
    np.testing.assert_allclose(both["u/global_norm"][1], 3 * over_time["u/global_norm"], rtol=1e-6)
    text = jax.jit(train).lower(tx, 1.0).as_text()
    assert "callback" not in text and "custom_call" not in text


def test_a_reading_without_a_gradient_keeps_its_value():
    tx = tap("t", (norm(), norm(per="leaf")))
    _, state = tx.update(GRADIENT, tx.init(PARAMS))
    before = readings(state)
    _, state = tx.update(GRADIENT | {"bias": None}, state, PARAMS)
    after = readings(state)
    assert after["t/norm/bias"] == before["t/norm/bias"] > 0
    assert after["t/global_norm"] == after["t/norm/kernel"]


def test_derivatives_do_not_pass_through_readings_and_are_finite():
    def last(rate, tx):
        def body(carry, _):
            params, state = carry
            g = jax.tree.map(jnp.zeros_like, params)  # where a norm has no derivative
            updates, state = tx(rate).update(g, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(body, (PARAMS, tx(rate).init(PARAMS)), length=2)
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))

    plain = lambda rate: adamw(rate, weight_decay=0.1)
    tapped = lambda rate: observe(plain(rate), (norm(), update_ratio(), gradtx.gradient_cosine()))
    slopes = [float(jax.grad(last)(0.1, tx)) for tx in (tapped, plain)]
    np.testing.assert_allclose(*slopes, rtol=1e-5)


@pytest.mark.parametrize("axis_name", [None, "d"])
def test_over_shards_a_reading_is_that_of_the_whole_if_the_axis_is_named(axis_name):
    mesh = jax.make_mesh((4,), ("d",))
    specs = {"sharded": P("d"), "whole": P()}
    g = tree(shapes={"sharded": (8, 3), "whole": (3,)})
    g = jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), g, specs)
    tx = chain(
        tap("t", (norm(), norm(per="leaf"), gradtx.update_rms()), axis_name=axis_name), scale(0.5)
    )

    def inside(g):
        def body(state, _):
            return tx.update(g, state)[1], None

        found = readings(jax.lax.scan(body, tx.init(g), length=2)[0])
        return found if axis_name else jax.tree.map(lambda x: x[None], found)

    # Where the axis is named, readings are the same on every device, and JAX knows it.
    shape = {
        "t/global_norm": P("d"),
        "t/norm/sharded": P("d"),
        "t/norm/whole": P("d"),
        "t/update_rms": P("d"),
    }
    out_specs = P() if axis_name else shape
    check = {} if axis_name else {"check_vma": False}
    got = jax.jit(
        jax.shard_map(inside, mesh=mesh, in_specs=(specs,), out_specs=out_specs, **check)
    )(g)
    whole = {k: np.asarray(x, "float64") for k, x in g.items()}
    parts = [{"sharded": x, "whole": whole["whole"]} for x in np.split(whole["sharded"], 4)]
    parts = [whole] if axis_name else parts
    for k, part in enumerate(parts):
        flat = np.concatenate([x.ravel() for x in part.values()])
        want = {
            "t/global_norm": np.linalg.norm(flat),
            "t/norm/whole": np.linalg.norm(part["whole"]),
        }
        want |= {
            "t/norm/sharded": np.linalg.norm(part["sharded"]),
            "t/update_rms": np.sqrt(np.mean(flat**2)),
        }
        for name, x in want.items():
            np.testing.assert_allclose(np.ravel(got[name])[k], x, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_on_a_mesh_readings_are_those_on_one_device(kind):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(jax.sharding.AxisType[kind],) * 2)
    g = tree(shapes={"kernel": (4, 6), "bias": (6,), "stack": (2, 4, 4)})
    specs = {"kernel": P("x", "y"), "bias": P("y"), "stack": P(None, "x", "y")}
    placed = jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), g, specs)
    measures = (norm(), norm(per="leaf"), gradtx.gradient_cosine(), gradtx.orthogonality_error())
    tx = observe(chain(clip_by_global_norm(0.5), adamw(0.1)), measures)
    want = readings(jax.jit(tx.update)(g, tx.init(g), g)[1])
    got = readings(jax.jit(tx.update)(placed, tx.init(placed), placed)[1])
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=3e-6, atol=1e-6, err_msg=name)


def test_a_recipe_that_names_its_state_may_name_the_readings():
    import typing

    class State(typing.NamedTuple):
        readings: typing.Any
        mu: typing.Any

    class named(gradtx.Recipe):
        state = State

        def expand(self):
            return chain(tap("t"), scale_by_momentum(0.5))

    _, state = named().update(GRADIENT, named().init(PARAMS))
    assert type(state) is State and state.mu.keys() == SMALL.keys()
    np.testing.assert_allclose(gradtx.get(state, "t/global_norm"), size(GRADIENT), rtol=1e-6)


def test_un_jitted_and_jitted_readings_agree_and_the_state_keeps_its_types():
    tx = observe(chain(clip_by_global_norm(0.5), adamw(0.1)), norm(per="leaf"))
    eager = tx.update(GRADIENT, tx.init(PARAMS), PARAMS)
    jitted = jax.jit(tx.update)(GRADIENT, tx.init(PARAMS), PARAMS)
    assert types(eager[1]) == types(jitted[1]) == types(tx.init(PARAMS))
    assert list(readings(eager[1])) == list(readings(jitted[1]))
    for a, b in itertools.pairwise(map(readings, (eager[1], jitted[1]))):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)
    exactly(eager[0], zoo.updated(tx.inner))
    same(eager[1].inner_state, tx.inner.update(GRADIENT, tx.inner.init(PARAMS), PARAMS)[1])

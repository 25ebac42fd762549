"""`offloaded`: the state lies in the memory of the host between steps, and the numbers are unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import gradtx
from gradtx import adamw, offloaded, state_shardings

SHAPES = {"kernel": (8, 8), "bias": (8,)}
PARAMS, GRADIENT = zoo.tree(shapes=SHAPES), zoo.tree(seed=1, shapes=SHAPES)
TX = offloaded(adamw(0.1), min_size=16)
PLACES = [None, "Auto", "Explicit"]


def placed(kind):
    """Parameters and gradients on one device, or sharded over a mesh."""
    if kind is None:
        return PARAMS, GRADIENT
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType[kind],))
    return jax.device_put((PARAMS, GRADIENT), NamedSharding(mesh, P("data")))


def kinds(state):
    """The memory of the two moments of each parameter, and of everything else."""
    mu, nu = (gradtx.get(state, name) for name in ("mu", "nu"))
    found = {
        name: {mu[name].sharding.memory_kind, nu[name].sharding.memory_kind} for name in SHAPES
    }
    return found | {"rest": {gradtx.get(state, "count").sharding.memory_kind}}


WANT = {"kernel": {"pinned_host"}, "bias": {"device"}, "rest": {"device"}}


@pytest.mark.parametrize("kind", PLACES)
def test_large_arrays_of_the_state_lie_in_host_memory_and_updates_do_not(kind):
    params, g = placed(kind)
    state = TX.init(params)
    plain = adamw(0.1).init(params)
    assert kinds(state) == WANT
    step = jax.jit(TX.update)
    for _ in range(2):
        want, plain = jax.jit(adamw(0.1).update)(g, plain, params)
        updates, state = step(g, state, params)
        assert kinds(state) == WANT
        assert {x.sharding.memory_kind for x in jax.tree.leaves(updates)} == {"device"}
        # One more copy is the only difference of the two programs.
        zoo.same((updates, state), (want, plain))
        for x, y in zip(*map(jax.tree.leaves, (state, plain)), strict=True):
            assert x.sharding.is_equivalent_to(
                y.sharding.with_memory_kind(x.sharding.memory_kind), x.ndim
            )
    eager, state = TX.update(g, TX.init(params), params)
    assert kinds(state) == WANT
    np.testing.assert_allclose(eager["kernel"], updates["kernel"], atol=0.3)


@pytest.mark.parametrize("kind", PLACES[1:])
def test_the_shardings_of_the_state_say_in_which_memory_it_lies(kind):
    params, _ = placed(kind)
    shardings = state_shardings(TX, params)
    assert gradtx.get(shardings, "mu")["kernel"].memory_kind == "pinned_host"
    assert kinds(jax.jit(TX.init, out_shardings=shardings)(params)) == WANT


@pytest.mark.parametrize("kind", PLACES)
def test_a_training_step_donates_and_compiles_once(kind):
    params, _ = placed(kind)
    params = jax.tree.map(jnp.copy, params)
    state = TX.init(params) if kind is None else init(params)
    step = gradtx.make_step(lambda p: jnp.sum(p["kernel"] ** 2) + jnp.sum(p["bias"]))
    for _ in range(3):
        params, state, _ = step(TX, params, state)
    assert kinds(state) == WANT and step._cache_size() <= 2


def init(params):
    return jax.jit(TX.init, out_shardings=state_shardings(TX, params))(params)


def test_a_loop_over_steps_keeps_the_state_in_host_memory():
    def body(carry, g):
        params, state = carry
        updates, state = TX.update(g, state, params)
        return (gradtx.apply_updates(params, updates), state), None

    gradients = jax.tree.map(lambda x: jnp.stack([x, x]), GRADIENT)
    scan = jax.jit(lambda *args: jax.lax.scan(body, args[:2], args[2])[0])
    _, state = scan(PARAMS, TX.init(PARAMS), gradients)
    assert kinds(state) == WANT


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_step_lowers_for_accelerators(platform):
    state = TX.init(PARAMS)
    exported = jax.export.export(jax.jit(TX.update), platforms=[platform])(GRADIENT, state, PARAMS)
    text = exported.mlir_module()
    assert text.count("annotate_device_placement") == 4  # two moments of the kernel, there and back


@pytest.mark.parametrize("size", [-1, 2.5])
def test_the_smallest_size_is_a_number_of_entries(size):
    with pytest.raises((TypeError, ValueError), match="min_size"):
        offloaded(adamw(0.1), min_size=size)

"""`state_shardings`: where the arrays of a state lie, known before the state is made."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import zoo
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P, SingleDeviceSharding

import gradtx
from gradtx import adam, state_shardings

SHAPES = {"layer": {"kernel": (8, 4), "bias": (8,)}, "gain": ()}
SPECS = {"layer": {"kernel": P("data", "model"), "bias": P("data")}, "gain": P()}


@pytest.fixture(params=["Auto", "Explicit"])
def mesh(request):
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType[request.param],) * 2)


def placed(mesh):
    """The parameters on the mesh, and their shardings."""
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
    return jax.device_put(zoo.tree(shapes=SHAPES), shardings), shardings


def lie_as(state, shardings):
    assert jax.tree.structure(state) == jax.tree.structure(shardings)
    for x, s in zip(*map(jax.tree.leaves, (state, shardings)), strict=True):
        assert x.sharding.is_equivalent_to(s, x.ndim)


COMPOSITIONS = {
    "routed": "partition({'a': adamw(0.1), 'b': sgd(0.1, momentum=0.9)}, "
    "by_path({'kernel': 'a'}, otherwise='b'))",
    "tunable": "tunable(chain(clip_by_global_norm(1.0), adamw(0.1, weight_decay=fading)))",
    "accumulated": "accumulate(adamw(0.1), 4)",
    "averaged": "averaged(adamw(0.1))",
    "in another precision": "master_weights(adamw(0.1))",
    "observed": "observe(chain(tap('in'), scale_by_momentum()), norm(per='leaf'))",
    "of Optax": "foreign(optax_adamw)",
}


@pytest.mark.parametrize("code", COMPOSITIONS.values(), ids=COMPOSITIONS)
def test_the_shardings_are_those_of_a_state_that_init_makes(code, mesh):
    tx = eval(code, zoo.NAMES | {"optax_adamw": optax.adamw(0.1)})
    params, shardings = placed(mesh)
    if "master" in code:
        params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    found = state_shardings(tx, params)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert state_shardings(tx, shapes, shardings) == found
    made = tx.init(params)
    # What is not like a parameter `init` leaves on one device, and it belongs on all of them.
    like_params = lambda tree: [
        x for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(made), strict=True) if y.ndim
    ]
    lie_as(like_params(made), like_params(found))
    assert {s.spec for s in like_params(found)} == {P("data", "model"), P("data")}
    state = jax.jit(tx.init, out_shardings=found)(params)
    lie_as(state, found)
    assert zoo.types(state) == zoo.types(made)


def test_a_prefix_and_a_mesh_in_use_make_no_difference(mesh):
    params, _ = placed(mesh)
    everywhere = NamedSharding(mesh, P())
    tree = jax.tree.map(lambda _: everywhere, params)
    with jax.set_mesh(mesh):
        found = state_shardings(adam(0.1), params, everywhere)
    assert found == state_shardings(adam(0.1), params, tree)
    assert {s.spec for s in jax.tree.leaves(found)} == {P()}


def test_leaves_that_are_not_optimized_need_no_sharding(mesh):
    rows = NamedSharding(mesh, P("data"))
    params = {"w": jax.ShapeDtypeStruct((8,), "float32"), "f": jnp.tanh, "none": None, "n": 3}
    found = state_shardings(adam(0.1), params, {"w": rows, "f": None, "none": None, "n": None})
    assert gradtx.get(found, "mu")["w"] == rows
    assert jax.tree.structure(found) == jax.tree.structure(
        adam(0.1).init({**params, "w": jnp.ones(8)})
    )


def test_on_one_device_the_state_lies_on_this_device():
    device = jax.devices()[1]
    params = jax.device_put({"w": jnp.ones(3)}, device)
    found = jax.tree.leaves(state_shardings(adam(0.1), params))
    assert len(found) == 5 and all(s.device_set == {device} for s in found)


def test_orbax_restores_a_state_to_the_devices_that_hold_it(mesh, tmp_path):
    params, shardings = placed(mesh)
    tx = gradtx.normuon(0.1)
    state = tx.init(params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        # Another mesh than the state was saved from.
        new = jax.make_mesh((2, 4), ("data", "model"), axis_types=mesh.axis_types)
        shardings = jax.tree.map(lambda s: NamedSharding(new, s.spec), shardings)
        found = state_shardings(tx, params, shardings)
        target = jax.eval_shape(jax.jit(tx.init, out_shardings=found), params)
        restored = checkpointer.restore(tmp_path / "state", target)
    zoo.same(restored, state)
    lie_as(restored, found)


@pytest.mark.parametrize(
    ("shardings", "error", "message"),
    [
        (lambda rows, other: {"a": P(), "b": rows}, TypeError, "at `a` is P"),
        (
            lambda rows, other: {"a": rows, "b": SingleDeviceSharding(jax.devices()[0])},
            TypeError,
            "at `b` is Single",
        ),
        (lambda rows, other: {"a": rows, "b": other}, ValueError, "`a` and `b` are on different"),
    ],
)
def test_a_sharding_that_does_not_fit_is_named_with_its_path(shardings, error, message):
    rows, other = (
        NamedSharding(jax.make_mesh((n,), ("data",), devices=jax.devices()[:n]), P("data"))
        for n in (4, 2)
    )
    params = {k: jax.ShapeDtypeStruct((8,), "float32") for k in "ab"}
    with pytest.raises(error, match=message):
        state_shardings(adam(0.1), params, shardings(rows, other))


def test_on_a_mesh_with_axes_of_both_kinds_a_step_is_that_of_one_device():
    """Optimizers of matrices refuse such a mesh, see `test_distributed.py`."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto, AxisType.Explicit))
    shardings = {"kernel": NamedSharding(mesh, P("x", "y")), "bias": NamedSharding(mesh, P("y"))}
    params = {"kernel": jnp.arange(32.0).reshape(4, 8) / 8, "bias": jnp.arange(8.0)}
    tx = gradtx.chain(gradtx.clip_by_global_norm(0.5), gradtx.stored(adam(0.1), "int8", min_size=1))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(params, state, params)
        return gradtx.apply_updates(params, updates), state

    put = jax.device_put(params, shardings)
    of_state = state_shardings(tx, put)
    got, state = step(put, jax.jit(tx.init, out_shardings=of_state)(put))
    want, _ = step(params, tx.init(params))
    # The norm is a sum of 40 squares in another order.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, want)
    lie_as(got, shardings)
    lie_as(state, of_state)


def test_the_optimizer_comes_first():
    with pytest.raises(TypeError, match=r"state_shardings\(tx=...\)` must be a gradient transf"):
        state_shardings({"w": jnp.ones(3)}, adam(0.1))

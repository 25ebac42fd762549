"""Hosts: gradtx inside the libraries and the transformations of JAX that people train with."""

import equinox as eqx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import zoo
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from zoo import fading, train, tree

import gradtx
from gradtx import adam, adamw, by_path, by_rank, chain, clip_by_global_norm, partition, sgd

# A schedule, a norm over the tree, parts of it for different parameters, a mask: all that has a state.
RICH = chain(
    clip_by_global_norm(1.0),
    partition(
        {
            "matrix": adamw(fading, weight_decay=0.1, mask=by_rank(2)),
            "rest": sgd(0.1, momentum=0.9),
        },
        by_path({"kernel|weight": "matrix"}, otherwise="rest"),
    ),
)
DATA = np.random.default_rng(0).normal(size=(16, 3)).astype("f4")
TARGET = (DATA[:, :1] * 2 - DATA[:, 1:2] + 0.5).astype("f4")


def bitwise(a, b):
    same = jax.tree.map(lambda x, y: np.asarray(x).tobytes() == np.asarray(y).tobytes(), a, b)
    assert jax.tree.all(same) and jax.tree.structure(a) == jax.tree.structure(b)


def close(a, b, rtol=2e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


# --- Flax -----------------------------------------------------------------------------------------


class Network(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(3, 4, rngs=rngs)
        self.head = nnx.Linear(4, 1, rngs=rngs)
        self.steps = nnx.Variable(jnp.zeros((), "int32"))

    def __call__(self, x):
        return self.head(nnx.tanh(self.hidden(x)))


@pytest.mark.parametrize("tx", [adamw(0.05), RICH], ids=["adamw", "rich"])
def test_flax_nnx_optimizer_trains_and_compiles_once(tx):
    model, traces = Network(nnx.Rngs(0)), []
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x, y):
        traces.append(None)
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    losses = [float(step(model, optimizer, DATA, TARGET)) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0] and len(traces) == 1
    assert int(optimizer.step[...]) == 40


def test_a_leaf_has_one_name_whether_flax_shows_its_variable_or_not():
    rule = by_path({"kernel$": "a", "bias$": "b"})
    tx = chain(
        gradtx.masked(clip_by_global_norm(1.0), by_path({"kernel$": True}, otherwise=False)),
        partition({"a": adamw(0.05), "b": sgd(0.1)}, rule),
    )
    model = Network(nnx.Rngs(0))
    shown = nnx.state(model, nnx.Param)
    bare = nnx.as_pure(shown)
    assert {r.path: r.label for r in gradtx.routing(tx, shown)} == {
        r.path: r.label for r in gradtx.routing(tx, bare)
    }
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    before = bare["hidden"]["kernel"]
    optimizer.update(model, nnx.grad(lambda m: jnp.mean((m(DATA) - TARGET) ** 2))(model))
    assert not np.allclose(before, model.hidden.kernel[...])
    assert [r.path for r in gradtx.routing(sgd(0.1), {"value": DATA})] == ["value"]


def test_flax_train_state_with_an_equal_rebuilt_optimizer_does_not_retrace():
    traces = []

    @jax.jit
    def step(state, g):
        traces.append(None)
        return state.apply_gradients(grads=g)

    params = tree(shapes=zoo.SMALL)
    for _ in range(3):
        tx = chain(clip_by_global_norm(1.0), adamw(fading, mask=by_rank(2)))
        state = TrainState.create(apply_fn=len, params=params, tx=tx)
        state = step(state, tree(seed=1, shapes=zoo.SMALL))
    assert len(traces) == 1
    want, _ = train(tx, params, [tree(seed=1, shapes=zoo.SMALL)])
    close(state.params, want)


def test_flax_serialization_restores_a_state_bit_for_bit():
    params = tree(shapes={"layer": zoo.SMALL})
    _, state = train(RICH, params, [tree(seed=1, shapes={"layer": zoo.SMALL})])
    stored = flax.serialization.to_bytes(state)
    bitwise(flax.serialization.from_bytes(RICH.init(params), stored), state)


# --- Equinox --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tx", [adamw(0.05), RICH], ids=["adamw", "rich"])
def test_equinox_model_trains_filtered_and_not_alike(tx):
    model = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0))

    def run(model, filtered):
        state = tx.init(eqx.filter(model, eqx.is_array) if filtered else model)

        @eqx.filter_jit
        def step(model, state):
            loss = lambda m: jnp.mean((jax.vmap(m)(DATA) - TARGET) ** 2)
            value, grads = eqx.filter_value_and_grad(loss)(model)
            params = eqx.filter(model, eqx.is_array) if filtered else model
            updates, state = tx.update(grads, state, params)
            return eqx.apply_updates(model, updates), state, value

        values = []
        for _ in range(30):
            model, state, value = step(model, state)
            values.append(float(value))
        return model, state, values

    trained, state, values = run(model, False)
    assert values[-1] < 0.6 * values[0]
    other, other_state, other_values = run(model, True)
    np.testing.assert_allclose(values, other_values, rtol=1e-6)
    close(jax.tree.leaves(state), jax.tree.leaves(other_state))
    close(eqx.filter(trained, eqx.is_array), eqx.filter(other, eqx.is_array))
    assert trained.activation == model.activation


def test_equinox_leaves_that_get_no_gradient_stay():
    model = eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(0))
    frozen = jax.tree.map(lambda _: False, model)
    where = lambda m: m.layers[0].weight
    trained, static = eqx.partition(model, eqx.tree_at(where, frozen, True))
    loss = lambda t: jnp.mean(jax.vmap(eqx.combine(t, static))(DATA) ** 2)
    grads = eqx.filter_grad(loss)(trained)
    tx = adamw(0.1)
    updates, state = tx.update(grads, tx.init(trained), trained)
    assert len([x for x in jax.tree.leaves(state) if x.ndim]) == 2  # one mu, one nu
    # The gradients of a part may also meet the whole model.
    whole, _ = tx.update(grads, tx.init(model), model)
    new = eqx.apply_updates(model, whole)
    close(where(new), where(eqx.apply_updates(trained, updates)))
    bitwise(new.layers[1].weight, model.layers[1].weight)


# --- Optax ----------------------------------------------------------------------------------------

PARAMS = tree(shapes={"layer": zoo.SMALL})
GRADIENTS = [tree(seed=i, shapes={"layer": zoo.SMALL}) for i in (1, 2, 3)]


HALVES = {"a": adam(0.1), "b": sgd(0.1)}
LABELS = {"layer": {"kernel": "a", "bias": "b"}}
MASK = {"layer": {"kernel": True, "bias": False}}
FALLING = optax.linear_schedule(1.0, 0.0, 4)
DECAY = gradtx.decoupled_weight_decay(0.1)
PAIRS = [
    # A transformation of gradtx inside a transformation of Optax
    (
        optax.chain(optax.clip_by_global_norm(0.5), sgd(0.1)),
        chain(clip_by_global_norm(0.5), sgd(0.1)),
    ),
    (optax.masked(adam(0.1), MASK), gradtx.masked(adam(0.1), by_rank(2))),
    (optax.partition(HALVES, LABELS), partition(HALVES, LABELS)),
    (optax.inject_hyperparams(adam)(learning_rate=0.1), adam(0.1)),
    (optax.apply_if_finite(adamw(0.1), 3), adamw(0.1)),
    (optax.MultiSteps(adamw(0.1), 1), adamw(0.1)),
    # A transformation of Optax inside a transformation of gradtx
    (chain(optax.scale_by_adam(), optax.scale(-0.1)), adam(0.1)),
    (chain(optax.add_decayed_weights(0.1), sgd(fading)), chain(DECAY, sgd(fading))),
    (chain(optax.scale_by_schedule(FALLING), sgd(1.0)), sgd(FALLING)),
    (gradtx.masked(optax.adam(0.1), by_rank(2)), gradtx.masked(adam(0.1), by_rank(2))),
]


@pytest.mark.parametrize(("mixed", "ours"), PAIRS, ids=lambda x: type(x).__name__)
def test_optax_and_gradtx_nest_both_ways(mixed, ours):
    def steps(tx):
        params, state = PARAMS, tx.init(PARAMS)
        for g in GRADIENTS:
            with jax.numpy_dtype_promotion("standard"):  # Optax's own need it
                updates, state = tx.update(g, state, params)
            params = gradtx.apply_updates(params, updates)
        return params

    # Optax's first steps are off by some 1e-5: its decays are rounded to float32.
    close(steps(mixed), steps(ours), 5e-5)


def test_optax_passes_extra_arguments_on():
    seen = {}

    class watch(gradtx.Transform):
        def update_tree(self, updates, state, params, extra):
            seen.update(extra)
            return updates, state

    tx = optax.chain(optax.clip(1.0), chain(sgd(0.1), watch()))
    tx.update(GRADIENTS[0], tx.init(PARAMS), PARAMS, value=3.0)
    assert seen == {"value": 3.0}
    polyak = chain(optax.polyak_sgd(), gradtx.identity())
    updates, _ = polyak.update(GRADIENTS[0], polyak.init(PARAMS), PARAMS, value=jnp.asarray(1.0))
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)


def test_optax_finds_and_sets_what_stands_in_a_state():
    tx = adamw(fading)
    _, state = train(tx, PARAMS, GRADIENTS)
    assert float(optax.tree.get(state, "last_learning_rate")) == pytest.approx(0.5 / 3)
    mu = optax.tree.get(state, "mu")
    assert jax.tree.structure(mu) == jax.tree.structure(PARAMS)
    bitwise(gradtx.get(state, "mu"), mu)
    bitwise(gradtx.set(state, mu=PARAMS), optax.tree.set(state, mu=PARAMS))
    assert int(optax.tree.get(state, "count")) == 3  # Adam's, and the only one


# --- Transformations of JAX -----------------------------------------------------------------------


def test_scan_over_steps_equals_a_loop_and_donates_its_carry():
    def body(carry, g):
        params, state = carry
        updates, state = RICH.update(g, state, params)
        return (gradtx.apply_updates(params, updates), state), optax.tree.norm(updates)

    gradients = jax.tree.map(lambda *xs: jnp.stack(xs), *GRADIENTS)
    start = jax.tree.map(jnp.copy, (PARAMS, RICH.init(PARAMS)))
    scanned, _ = jax.jit(lambda c, g: jax.lax.scan(body, c, g), donate_argnums=0)(start, gradients)
    close(scanned, train(RICH, PARAMS, GRADIENTS))
    assert all(x.is_deleted() for x in jax.tree.leaves(start))


def test_branches_of_a_condition_agree_on_the_state():
    @jax.jit
    def step(go, params, state, g):
        go_on = lambda s: RICH.update(g, s, params)[1]
        return jax.lax.cond(go, go_on, lambda s: s, state)

    state = RICH.init(PARAMS)
    bitwise(step(False, PARAMS, state, GRADIENTS[0]), state)
    close(step(True, PARAMS, state, GRADIENTS[0]), train(RICH, PARAMS, GRADIENTS[:1])[1])


def test_models_in_a_batch_each_have_their_own_state():
    batch = jax.tree.map(lambda *xs: jnp.stack(xs), PARAMS, GRADIENTS[2])
    gradients = [jax.tree.map(lambda g: jnp.stack([g, 2 * g]), g) for g in GRADIENTS]
    got = jax.jit(jax.vmap(lambda p, g: train(RICH, p, g)))(batch, gradients)
    for i in range(2):
        alone = train(RICH, *jax.tree.map(lambda x, i=i: x[i], (batch, gradients)))
        close(jax.tree.map(lambda x, i=i: x[i], got), alone)


# --- Meshes ---------------------------------------------------------------------------------------

WIDE = {"layer": {"kernel": (8, 4), "bias": (8,)}, "gain": ()}
SPECS = {"layer": {"kernel": P("data", "model"), "bias": P("data")}, "gain": P()}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("row", ["adamw(0.1)", "rich", "sgd(0.1, momentum=0.9)"])
def test_states_are_sharded_like_their_parameters_and_numbers_are_those_of_one_device(kind, row):
    tx = RICH if row == "rich" else zoo.evaluate(row)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))
    params, gradients = tree(shapes=WIDE), [tree(seed=i, shapes=WIDE) for i in (1, 2, 3)]
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
    want = train(tx, params, gradients)

    def check(state):
        # A part that is like the parameters ends in a parameter's path.
        for path, x in jax.tree_util.tree_leaves_with_path(state):
            names = [key.key for key in path if getattr(key, "key", None) in ("kernel", "bias")]
            if names:
                spec = SPECS["layer"][names[-1]]
                assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim), path

    def step(params, state, g):
        updates, state = tx.update(g, state, params)
        return gradtx.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
        # A copy, since donating it would take the buffers that `device_put` shares.
        placed = jax.device_put(tree(shapes=WIDE), shardings)
        state = tx.init(placed)
        check(state)
        if kind == AxisType.Explicit:
            check(jax.jit(tx.init)(placed))
        jitted = jax.jit(step, donate_argnums=(0, 1))
        for g in gradients:
            placed, state = jitted(placed, state, jax.device_put(g, shardings))
            check(state)
        assert jitted._cache_size() <= 2  # the first state's scalars are not yet on the mesh
        close((placed, state), want)
        eager = train(
            tx, jax.device_put(params, shardings), jax.device_put(gradients, [shardings] * 3)
        )
        close(eager, want)


# --- Checkpoints ----------------------------------------------------------------------------------


def test_orbax_resumes_bit_for_bit(tmp_path):
    params, state = train(RICH, PARAMS, GRADIENTS[:2])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", {"params": params, "state": state})
        checkpointer.wait_until_finished()
        shapes = jax.eval_shape(lambda: {"params": PARAMS, "state": RICH.init(PARAMS)})
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            shapes,
        )
        restored = checkpointer.restore(tmp_path / "step", target)
    bitwise(restored["state"], state)
    assert zoo.types(restored["state"]) == zoo.types(state)

    def resume(params, state):
        updates, state = RICH.update(GRADIENTS[2], state, params)
        return gradtx.apply_updates(params, updates), state

    bitwise(resume(restored["params"], restored["state"]), resume(params, state))


@pytest.mark.parametrize(
    "code",
    [
        "scale_by_full_matrix_adagrad()",
        "freeze()",
        "freeze(by_rank(2))",
        "clip_by_block_rms(0.5)",
        "adaptive_grad_clip(0.1)",
        "masked(equilibrate_rows(), by_rank(2))",
        "masked(scale_by_neuron_rms(), by_rank(2))",
        "cautious(scale_by_momentum())",
        "1.0 - identity() * 0.5",
        "adamw(0.1, mask=by_rank(2))",
    ],
)
def test_updates_leave_with_the_shardings_of_the_parameters_on_an_explicit_mesh(code):
    tx = zoo.evaluate(code)
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    shapes = {"kernel": (4, 2), "bias": (4,)}
    params, g = zoo.tree(shapes=shapes), zoo.tree(seed=1, shapes=shapes)
    want, _ = tx.update(g, tx.init(params), params)
    with jax.set_mesh(mesh):
        params, g = jax.device_put((params, g), rows)
        state = tx.init(params)
        for step in (tx.update, jax.jit(tx.update)):
            updates, new = step(g, state, params)
            assert all(x.sharding.is_equivalent_to(rows, x.ndim) for x in jax.tree.leaves(updates))
            assert zoo.types(new) == zoo.types(state)
            close(jax.device_get(updates), jax.device_get(want), 1e-6)

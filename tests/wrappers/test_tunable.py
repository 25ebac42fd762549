"""`tunable` and `inject_hyperparams`: hyperparameters that are read and changed in the state."""

import copy
import functools
import math
import pickle

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from compilations import Compilations
from flax import nnx
from flax.training.train_state import TrainState
from rounding import roundings
from zoo import exactly, tree, types

import gradtx
from gradtx import (
    adam,
    adamw,
    chain,
    clip_by_global_norm,
    muon,
    partition,
    replace,
    scale,
    second_moment,
    sgd,
    tunable,
)

SHAPES = {"w": (2, 3), "b": (3,)}
PARAMS = tree(shapes=SHAPES)
GRADIENTS = [tree(seed=seed, shapes=SHAPES) for seed in range(1, 4)]


def trained(tx, steps=6, change=lambda k, tx, state: (tx, state), jit=True):
    """Parameters and state after some steps; `change` may edit optimizer and state before each."""
    step = jax.jit(lambda tx, g, s, p: tx.update(g, s, p)) if jit else type(tx).update
    params, state = PARAMS, tx.init(PARAMS)
    for k in range(steps):
        tx, state = change(k, tx, state)
        updates, state = step(tx, GRADIENTS[k % 3], state, params)
        params = gradtx.apply_updates(params, updates)
    return params, state


# The numbers

RATES = [
    sgd(0.1, momentum=0.9),
    adamw(0.1),
    gradtx.adagrad(0.1, lr_decay=0.1),
    chain(clip_by_global_norm(0.5), adam(0.1, b2=0.99, nesterov=True)),
    muon(0.1, weight_decay=0.01),
]


@pytest.mark.parametrize("tx", RATES, ids=str)
@pytest.mark.parametrize("jit", [True, False])
def test_the_learning_rate_alone_gives_the_same_trajectory_bit_for_bit(tx, jit):
    params, state = trained(tunable(tx, "learning_rate"), jit=jit)
    # The rate is an array, so it is not a constant of this program either.
    want = trained(replace(tx, learning_rate=jnp.float32(0.1)), jit=jit)
    exactly((params, state.inner_state), want)


@pytest.mark.parametrize("tx", RATES, ids=str)
def test_all_numbers_give_the_same_trajectory_up_to_rounding(tx):
    params, state = trained(tunable(tx), jit=False)
    want = trained(tx, jit=False)
    assert types(state.inner_state) == types(want[1])
    for a, b in zip(*map(jax.tree.leaves, ((params, state.inner_state), want)), strict=True):
        # Six steps of some five roundings, relative to the largest entry.
        np.testing.assert_allclose(a, b, rtol=0, atol=4e-6 * float(np.max(np.abs(b), initial=0)))


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("make", [lambda tx: tx, gradtx.bias_correction])
def test_a_decay_keeps_its_digits(make, jit):
    """With the unit gradient v_t = 1 - b^t; in float32, 1 - b alone is off by one part in a thousand."""
    b = 0.99999
    tx = tunable(make(second_moment(b)))
    update = jax.jit(tx.update) if jit else tx.update
    state = tx.init(jnp.ones(2))
    for _ in range(3):
        v, state = update(jnp.ones(2), state)
    want = 1.0 if make is gradtx.bias_correction else 1 - b**3
    np.testing.assert_allclose(v, want, rtol=4e-7)


def test_a_decay_that_is_set_back_has_its_digits_again():
    tx = tunable(second_moment(0.99999))
    state = gradtx.set(gradtx.set(tx.init(jnp.ones(2)), decay=0.5), decay=0.99999)
    np.testing.assert_allclose(tx.update(jnp.ones(2), state)[0], 1e-5, rtol=4e-7)


def test_a_decay_of_0_and_a_weight_decay_of_0_can_be_raised():
    tx = tunable(adamw(0.1, b1=0.0, weight_decay=0.0))
    want = trained(adamw(0.1, b1=0.0, weight_decay=0.0))[0]
    got = trained(tx)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), got, want)

    def raised(k, tx, state):
        return tx, gradtx.set(state, b1=0.5, weight_decay=0.25)

    got, want = trained(tx, change=raised)[0], trained(adamw(0.1, b1=0.5, weight_decay=0.25))[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), got, want)


CHANGES = {
    "learning_rate": (adamw(0.1), 0.025),
    "b1": (adamw(0.1), 0.5),
    "weight_decay": (adamw(0.1), 0.5),
    "eps": (adamw(0.1), 0.25),
    "max_norm": (chain(clip_by_global_norm(0.5), sgd(0.1)), 0.25),
    "beta": (muon(0.1), 0.5),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("jit", [True, False])
def test_setting_in_the_state_is_replacing_in_the_optimizer(name, jit):
    tx, value = CHANGES[name]

    def set_it(k, tx, state):
        return tx, gradtx.set(state, **{name: value}) if k == 3 else state

    def replace_it(k, tx, state):
        return replace(tx, **{name: value}) if k == 3 else tx, state

    params, state = trained(tunable(tx), change=set_it, jit=jit)
    assert gradtx.get(state, name) == np.float32(value)
    want, _ = trained(tx, change=replace_it, jit=jit)
    # Six steps of some five roundings.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=4e-6), params, want)


# The names


def names(tx, params=PARAMS):
    return sorted(tx.init(params).hyperparams)


def test_a_name_is_as_short_as_it_can_be():
    both = {"slow": sgd(0.01), "fast": adamw(0.1)}
    groups = tunable(partition(both, gradtx.by_path({"w": "fast"}, "slow")))
    assert "slow.learning_rate" in names(groups) and "fast.learning_rate" in names(groups)
    assert "b1" in names(groups) and "learning_rate" not in names(groups)
    links = chain(scale(0.5), chain(scale(0.5), scale(0.5)))
    # Both chains have a position 0, and the inner one stands at the position 1 of the outer one.
    nested = ["1.links.0.step_size", "1.links.1.step_size", "links.0.step_size"]
    assert names(tunable(links)) == nested
    inner = tunable(muon(0.1, auxiliary=adamw(0.01)))
    assert {"learning_rate", "auxiliary.learning_rate"} <= {*names(inner)}


def test_every_name_is_one_that_replace_understands():
    slow = sgd(0.01, momentum=0.9, weight_decay=0.1)
    both = {"slow": slow, "fast": chain(scale(0.5), adamw(0.1))}
    tx = tunable(partition(both, gradtx.by_path({"w": "fast"}, "slow")))
    for name, found in tx.found.items():
        new = replace(tx, **{name: 0.5 * found.value})
        assert [k for k in tx.found if new.found[k].value != tx.found[k].value] == [name]


def test_a_plain_name_sets_all_and_a_dotted_name_one():
    state = tunable(chain(sgd(0.1), sgd(0.2))).init(PARAMS)
    assert [float(x) for x in gradtx.set(state, learning_rate=0.5).hyperparams.values()] == [
        0.5,
        0.5,
    ]
    one = gradtx.set(state, **{"1.learning_rate": 0.5})
    assert gradtx.get(one, "0.learning_rate") == np.float32(0.1)
    assert gradtx.get(one, "1.learning_rate") == 0.5
    with pytest.raises(
        KeyError, match=r"hyperparams\.0\.learning_rate, hyperparams\.1\.learning_rate"
    ):
        gradtx.get(state, "learning_rate")


def test_a_parameter_of_the_same_name_is_not_meant():
    params = {"b1": jnp.ones(2), "learning_rate": jnp.ones(2)}
    state = gradtx.set(tunable(adamw(0.1)).init(params), b1=0.5)
    assert gradtx.get(state, "b1") == 0.5 and gradtx.get(state, "learning_rate") == np.float32(0.1)
    assert gradtx.get(state, "mu")["b1"].shape == (2,)


def test_only_some_numbers_are_kept():
    assert names(tunable(adamw(0.1), "learning_rate")) == ["learning_rate"]
    assert names(tunable(adamw(0.1), ["b2", "learning_rate"])) == ["b2", "learning_rate"]
    links = chain(sgd(0.1), sgd(0.2))
    assert names(tunable(links, "learning_rate")) == ["0.learning_rate", "1.learning_rate"]
    assert names(tunable(links, "1.learning_rate")) == ["1.learning_rate"]
    inside = tunable(chain(sgd(0.1), tunable(scale(0.5))))
    assert names(inside) == ["learning_rate"]  # the inner one keeps its own


def test_initial_values_are_not_kept():
    assert names(tunable(gradtx.adagrad(0.1))) == ["eps", "learning_rate"]


# Schedules


def test_a_schedule_is_recorded_and_its_numbers_are_kept():
    schedule = gradtx.inverse_time(0.5)
    tx = tunable(chain(scale(schedule), sgd(lambda step: 0.1 * 0.5**step)))
    state = tx.init(PARAMS)
    assert sorted(state.hyperparams) == ["learning_rate", "step_size", "step_size.decay_rate"]
    assert gradtx.get(state, "learning_rate") == np.float32(0.1)
    updates, state = tx.update(GRADIENTS[0], state)
    updates, state = tx.update(GRADIENTS[0], state)
    assert gradtx.get(state, "learning_rate") == np.float32(0.05)
    assert gradtx.get(state, "step_size") == np.float32(1 / 1.5)
    exactly(
        updates, jax.tree.map(lambda g: np.float32(-0.05) * (np.float32(1 / 1.5) * g), GRADIENTS[0])
    )
    updates, state = tx.update(GRADIENTS[0], gradtx.set(state, **{"step_size.decay_rate": 1.5}))
    assert gradtx.get(state, "step_size") == 0.25
    exactly(updates, jax.tree.map(lambda g: np.float32(-0.025) * (0.25 * g), GRADIENTS[0]))


@pytest.mark.parametrize("jit", [False, True])
def test_a_schedule_that_is_a_function_may_be_all_that_is_recorded(jit):
    tx = tunable(gradtx.clip(lambda step: 0.5 / (1 + step)))
    update = jax.jit(tx.update) if jit else tx.update
    state, g = tx.init(jnp.zeros(2)), jnp.array([1.0, 0.1])
    for limit in (0.5, 0.25):
        updates, state = update(g, state)
        np.testing.assert_array_equal(updates, np.array([limit, 0.1], np.float32))
        assert gradtx.get(state, "max_delta") == limit


def test_the_numbers_of_a_warm_up_and_cosine_are_set_by_name():
    plain = sgd(gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 4, 40))
    tx = tunable(plain)
    state, want = tx.init(PARAMS), plain.init(PARAMS)
    for _ in range(6):
        _, state = tx.update(GRADIENTS[0], state)
        _, want = plain.update(GRADIENTS[0], want)
    assert gradtx.get(state, "learning_rate") == gradtx.get(want, "last_learning_rate")
    state = gradtx.set(state, **{"learning_rate.peak_value": 0.3, "learning_rate.decay_steps": 80})
    _, state = tx.update(GRADIENTS[0], state)
    _, want = replace(plain, peak_value=0.3, decay_steps=80).update(GRADIENTS[0], want)
    np.testing.assert_allclose(
        gradtx.get(state, "learning_rate"), gradtx.get(want, "last_learning_rate"), rtol=5e-7
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="entries are read where this is free")
def test_a_number_that_the_optimizer_refuses_cannot_be_set():
    rate = gradtx.warmup_cosine_decay_schedule(0.0, 0.1, 3, 10)
    tx = tunable(chain(gradtx.clip_by_global_norm(1.0), adamw(rate)))
    states = [tx.init(PARAMS), jax.jit(tx.init)(PARAMS)]
    states.append(jax.jit(tx.update)(GRADIENTS[0], states[1], PARAMS)[1])
    states.append(jax.tree.map(lambda x: x, states[2]))
    # `b2` is limited by a part of the recipe, `eps` by the recipe, and the next one by a schedule.
    refused = {"b2": 1.0, "eps": -1.0, "learning_rate.warmup_steps": -2.0, "max_norm": math.nan}
    for state in states:
        for name, value in refused.items():
            with pytest.raises(ValueError, match=rf"`set\({name}={value}\)` must lie in [\[(]0, "):
                gradtx.set(state, **{name: value})
    state = states[0]
    with pytest.raises(ValueError, match=r"`set\(b1=1\.0\)` must lie in \[0, 1\)"):
        gradtx.set(state, b1=1.0)  # an average refuses it, and a sum does not
    with pytest.raises(ValueError, match=r"keeps it in float32, where it is rounded to 1\.0"):
        gradtx.set(state, b2=0.99999999)
    with pytest.raises(ValueError, match=r"`set\(b2=Array\(1.5, .*\)` must lie in \[0, 1\)"):
        gradtx.set(state, b2=jnp.float32(1.5))
    with pytest.raises(TypeError, match=r"`set\(weight_decay=\.\.\.\)` cannot be a schedule"):
        gradtx.set(state, weight_decay=lambda step: 0.1)
    # A traced number is not known, and a pickled state needs no class of gradtx.
    jax.jit(lambda x: gradtx.set(state, b2=x))(1.5)
    assert {type(key) for key in pickle.loads(pickle.dumps(state.hyperparams))} == {str}
    assert jax.tree.structure(pickle.loads(pickle.dumps(state))) == jax.tree.structure(state)


def test_a_schedule_cannot_be_set():
    state = tunable(sgd(lambda step: 0.1)).init(PARAMS)
    with pytest.raises(ValueError, match="`learning_rate` is a schedule"):
        gradtx.set(state, learning_rate=0.5)


# Hosts


def test_optax_reads_and_sets_by_name():
    tx = tunable(adamw(0.1))
    state = tx.init(PARAMS)
    assert isinstance(state, optax.InjectStatefulHyperparamsState)
    assert optax.tree.get(state, "learning_rate") == np.float32(0.1)
    state = optax.tree.set(state, learning_rate=0.25)  # a Python number
    updates, after = tx.update(GRADIENTS[0], state, PARAMS)
    assert types(after) == types(tx.init(PARAMS))
    assert gradtx.get(after, "learning_rate") == 0.25
    exactly(updates, tx.update(GRADIENTS[0], gradtx.set(state, learning_rate=0.25), PARAMS)[0])


def test_setting_compiles_nothing_under_jit_in_flax_and_in_equinox():
    tx = tunable(adamw(0.1))

    @jax.jit
    def step(state, params):
        updates, state = tx.update(GRADIENTS[0], state, params)
        return state, gradtx.apply_updates(params, updates)

    state, params = step(tx.init(PARAMS), PARAMS)
    state, params = step(gradtx.set(state, learning_rate=0.5, b1=0.8), params)
    assert step._cache_size() == 1

    network = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(network, tx, wrt=nnx.Param)
    traces = []

    @nnx.jit
    def nnx_step(network, optimizer):
        traces.append(1)
        grads = nnx.grad(lambda network: jnp.sum(network(jnp.ones((1, 2)))))(network)
        optimizer.update(network, grads)

    nnx_step(network, optimizer)
    before = network.kernel[...]
    optimizer.opt_state = gradtx.set(optimizer.opt_state, learning_rate=0.0)
    nnx_step(network, optimizer)
    assert len(traces) == 1
    assert float(gradtx.get(optimizer.opt_state, "learning_rate")) == 0
    np.testing.assert_array_equal(network.kernel[...], before)

    train = TrainState.create(apply_fn=None, params=PARAMS, tx=tx)
    apply = jax.jit(lambda s, g: s.apply_gradients(grads=g))
    train = apply(apply(train, GRADIENTS[0]), GRADIENTS[0])
    compiled = apply._cache_size()  # Flax counts steps from a Python number, and compiles twice
    train = train.replace(opt_state=gradtx.set(train.opt_state, learning_rate=0.0))
    after = apply(train, GRADIENTS[0])
    assert apply._cache_size() == compiled
    exactly(after.params, train.params)

    model = equinox.nn.Linear(2, 1, key=jax.random.key(0))
    eqx_traces = []

    @equinox.filter_jit
    def eqx_step(tx, model, state):
        eqx_traces.append(1)
        grads = equinox.filter_grad(lambda model: jnp.sum(model(jnp.ones(2))))(model)
        updates, state = tx.update(grads, state, model)
        return gradtx.apply_updates(model, updates), state

    model, state = eqx_step(tx, model, tx.init(model))
    eqx_step(tx, model, gradtx.set(state, learning_rate=0.5))
    assert len(eqx_traces) == 1


def test_is_saved_and_restored_by_orbax(tmp_path):
    tx = tunable(chain(clip_by_global_norm(1.0), adamw(0.1)))
    _, state = trained(tx, change=lambda k, tx, state: (tx, gradtx.set(state, learning_rate=0.5)))
    with orbax.checkpoint.StandardCheckpointer() as saver:
        saver.save(tmp_path / "state", state)
        saver.wait_until_finished()
        restored = saver.restore(tmp_path / "state", jax.eval_shape(tx.init, PARAMS))
    exactly(restored, state)
    assert gradtx.get(restored, "learning_rate") == 0.5


def test_is_legal_in_scan_and_a_sweep_lies_in_the_state():
    tx = tunable(adamw(0.1))

    def train(state):
        def body(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        stacked = jax.tree.map(lambda *x: jnp.stack(x), *GRADIENTS)
        return jax.lax.scan(body, (PARAMS, state), stacked)[0][0]

    rates = jnp.array([0.1, 0.2, 0.4])
    states = jax.vmap(lambda rate: gradtx.set(tx.init(PARAMS), learning_rate=rate))(rates)
    swept = jax.jit(jax.vmap(train))(states)
    for i, rate in enumerate(rates):
        alone = train(gradtx.set(tx.init(PARAMS), learning_rate=rate))
        jax.tree.map(
            # Three steps of some five roundings.
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=0, atol=2e-6),
            swept,
            alone,
        )


def test_is_swept_and_differentiated_as_a_value():
    def final(tx):
        state = tx.init(PARAMS)
        updates, _ = tx.update(GRADIENTS[0], state, PARAMS)
        return sum(jnp.sum(u) for u in jax.tree.leaves(updates))

    for make in (lambda tx: tx, tunable):
        batch = gradtx.stack([make(adamw(0.1)), make(adamw(0.2))])
        got = jax.vmap(final, in_axes=(gradtx.axes(batch),))(batch)
        want = [final(make(adamw(rate))) for rate in (0.1, 0.2)]
        np.testing.assert_allclose(got, want, rtol=1e-6)
    slope = jax.grad(final)(tunable(adamw(0.1))).inner
    want = jax.grad(final)(adamw(0.1))
    for name in ("learning_rate", "weight_decay", "eps"):
        np.testing.assert_allclose(getattr(slope, name), getattr(want, name), rtol=1e-5)


def test_is_legal_in_shard_map():
    mesh = jax.make_mesh((8,), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    tx = tunable(chain(clip_by_global_norm(1.0, axis_name="data"), adamw(0.1)))
    params = {"w": jnp.arange(16.0).reshape(8, 2)}

    def run(params):
        def body(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (gradtx.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, tx.init(params)), length=2)[0][0]

    params = jax.device_put(params, jax.sharding.NamedSharding(mesh, spec))
    sharded = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))(params)
    alone = replace(tx, axis_name=None)
    want = params
    state = alone.init(params)
    for _ in range(2):
        updates, state = alone.update(want, state, want)
        want = gradtx.apply_updates(want, updates)
    # The norm is a sum in another order, and an update is some five roundings of numbers below 16.
    np.testing.assert_allclose(sharded["w"], want["w"], rtol=0, atol=8e-6)


def test_an_unjitted_loop_compiles_a_bounded_number_of_times():
    def loop(steps, first):
        for k in range(steps):
            x = 1.0 / (first + k)
            tx = tunable(
                adamw(0.1037 * x, b2=1 - 0.01037 * x, weight_decay=lambda step: 0.1 * step)
            )
            state = gradtx.set(tx.init(PARAMS), learning_rate=0.2 * x, b1=0.5 * x)
            for _ in range(2):
                _, state = tx.update(GRADIENTS[0], state, PARAMS)

    loop(6, 1)
    compilations = Compilations()
    loop(12, 7)
    assert compilations.count == 0


# Parts


def test_elementwise_neighbors_share_a_pass_with_what_is_inside():
    def stages(tx):
        leaves, structure = jax.tree.flatten(PARAMS)
        return [type(stage).__name__ for stage in tx.program(leaves, structure).stages]

    assert stages(chain(scale(0.5), adamw(0.1), scale(2.0))) == ["Begin", "Pass"]
    assert stages(chain(scale(0.5), tunable(adamw(0.1)), scale(2.0))) == ["Tune", "Begin", "Pass"]


def test_a_recipe_may_calculate_with_its_numbers():
    class halved(gradtx.Recipe):
        learning_rate: gradtx.Hyper = 0.1
        kept: gradtx.Hyper = 0.00001

        def expand(self):
            rate = 2 * (self.learning_rate / 4 - 1) + 2
            return chain(second_moment(1 - self.kept), gradtx.scale_by_learning_rate(-rate))

    tx = tunable(halved())
    state = tx.init(jnp.ones(2))
    np.testing.assert_allclose(tx.update(jnp.ones(2), state)[0], 0.05e-5, rtol=1e-6)
    state = gradtx.set(state, learning_rate=1.0, kept=0.5)
    np.testing.assert_allclose(tx.update(jnp.ones(2), state)[0], 0.25, rtol=1e-6)


def test_a_recipe_that_compares_its_number_is_told_so():
    class picky(gradtx.Recipe):
        learning_rate: gradtx.Hyper = 0.1

        def expand(self):
            return scale(jnp.sqrt(self.learning_rate))

    with pytest.raises(
        TypeError, match=r"A number that is `tunable` is not known.*`tunable\(inner, names\)`"
    ):
        tunable(picky()).init(PARAMS)


def test_a_class_may_pass_its_decay_to_a_function_of_jax():
    class powered(gradtx.Elementwise):
        decay: gradtx.Hyper = 0.25
        limits = {"decay": "[0, 1)"}

        def begin(self, state, measured):
            return state, jnp.sqrt(self.decay)

        def update_leaf(self, update, state, param, root):
            return jnp.power(self.decay, 2.0) * root * update, state

    tx = tunable(powered())
    updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    np.testing.assert_allclose(updates, 0.25**2.5, rtol=1e-6)


def test_a_transformation_of_the_whole_tree_gets_its_numbers():
    class normalized(gradtx.Transform):
        size: gradtx.Hyper = 1.0

        def update_tree(self, updates, state, params, extra):
            norm = gradtx.global_norm(updates)
            return jax.tree.map(lambda u: jax.lax.mul(self.size, 1.0) * u / norm, updates), state

    class twice(gradtx.Wrapper):
        def update_tree(self, updates, state, params, extra):
            updates, state = self.inner.update_tree(updates, state, params, extra)
            return self.inner.update_tree(updates, state, params, extra)

    tx = tunable(normalized())
    state = gradtx.set(tx.init(PARAMS), size=2.0)
    np.testing.assert_allclose(gradtx.global_norm(tx.update(PARAMS, state)[0]), 2.0, rtol=1e-6)
    tx = tunable(twice(second_moment(0.99999)))
    v, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    # v is 1e-5, and then 0.99999e-5 + 1e-5 * 1e-10.
    np.testing.assert_allclose(v, 0.99999e-5 + 1e-15, rtol=1e-6)


def test_the_iterate_of_nesterov_has_the_numbers_of_the_state():
    plain = sgd(0.1, momentum=0.5, nesterov=True)
    tx = tunable(plain)
    state = gradtx.set(tx.init(PARAMS), learning_rate=0.2, momentum=0.25)
    _, state = tx.update(GRADIENTS[0], state, PARAMS)
    now = replace(plain, learning_rate=0.2, momentum=0.25)
    want = gradtx.eval_params(now, PARAMS, state.inner_state)
    exactly(gradtx.eval_params(tx.inner_at(state), PARAMS, state.inner_state), want)


# Errors


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"does not have a number.*`optax\.inject_hyperparams`"):
        tunable(optax.adam(0.1))
    with pytest.raises(
        ValueError, match="no hyperparameter `lr`; it has learning_rate, b1, b2, eps"
    ):
        tunable(adamw(0.1), "lr")
    with pytest.raises(TypeError, match=r"'bfloat16'.*must be 'float32' or 'float64'"):
        tunable(adamw(0.1), hyperparam_dtype=jnp.bfloat16)
    tx = tunable(sgd(0.1))
    state = tx.init(PARAMS)
    wrong = state._replace(hyperparams={"learning_rate": jnp.ones(2)})
    with pytest.raises(ValueError, match="must hold one number for `learning_rate`"):
        tx.update(GRADIENTS[0], wrong)


# Optax's name


def test_inject_hyperparams_has_the_call_form_of_optax():
    make = gradtx.inject_hyperparams(adamw)
    assert make(learning_rate=1e-3) == tunable(adamw(1e-3)) == make(1e-3)
    some = gradtx.inject_hyperparams(adamw, static_args=("b1", "b2"))(1e-3)
    assert names(some) == ["eps", "learning_rate", "weight_decay"]
    assert copy.copy(some) == some and gradtx.parse(repr(some)) == some
    wide = gradtx.inject_hyperparams(adamw, hyperparam_dtype=jnp.float32)(1e-3)
    assert wide == tunable(adamw(1e-3), hyperparam_dtype="float32")

    @gradtx.inject_hyperparams
    def clipped(learning_rate, most):
        """An optimizer of a user."""
        return chain(clip_by_global_norm(most), sgd(learning_rate))

    assert clipped.__name__ == "clipped"
    assert names(clipped(0.1, most=1.0)) == ["learning_rate", "max_norm"]
    with pytest.raises(TypeError, match=r"write `gradtx.tunable\(...\)`"):
        gradtx.inject_hyperparams(adamw(0.1))


def test_bfloat16_parameters_do_not_round_the_decays():
    """Optax gives hyperparameters the dtype of the parameters, in which 0.999 is 1."""
    params = tree("bfloat16", shapes=SHAPES)
    tx = gradtx.inject_hyperparams(adamw)(1e-3)
    updates, state = tx.update(params, tx.init(params), params)
    assert {x.dtype.name for x in state.hyperparams.values()} == {"float32"}
    exactly(updates, adamw(1e-3).update(params, adamw(1e-3).init(params), params)[0])
    with pytest.raises(ValueError, match=r"bfloat16.*pass `hyperparam_dtype=jnp.float32`"):
        optax.inject_hyperparams(adamw)(1e-3).init(params)
    wide = optax.inject_hyperparams(adamw, hyperparam_dtype=jnp.float32)(1e-3)
    updates, _ = wide.update(params, wide.init(params), params)
    assert all(bool(jnp.all(jnp.isfinite(u))) for u in jax.tree.leaves(updates))


@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_setting_compiles_nothing_on_a_mesh(kind):
    axis = getattr(jax.sharding.AxisType, kind)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(axis,))
    tx = tunable(chain(clip_by_global_norm(1.0), adamw(0.1)))

    @jax.jit
    def step(state, params):
        updates, state = tx.update(params, state, params)
        return state, gradtx.apply_updates(params, updates)

    with jax.set_mesh(mesh):
        spec = jax.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
        params = jax.device_put({"w": jnp.ones((8, 2))}, spec)
        state, params = step(*step(tx.init(params), params))
        compiled = step._cache_size()
        new = gradtx.set(state, learning_rate=0.5, b1=0.8)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding == b.sharding, new, state))
        step(new, params)
        assert step._cache_size() == compiled


@pytest.mark.parametrize("least", [1e-30, 5e-324, 0.0])
def test_a_number_may_be_so_small_that_one_minus_it_is_one(least):
    """Its logarithm, which a decay needs, is asked for of every hyperparameter (found by fuzzing)."""
    tx = tunable(gradtx.scale_by_adam(eps=least) / 2)
    state = tx.init(PARAMS)
    updates, _ = jax.jit(tx.update)(GRADIENTS[0], state, PARAMS)
    expected, _ = (gradtx.scale_by_adam(eps=least) / 2).update(GRADIENTS[0], state.inner_state)
    close = functools.partial(np.testing.assert_allclose, rtol=roundings(8, "float32"))
    jax.tree.map(close, updates, expected)

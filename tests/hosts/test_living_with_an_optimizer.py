"""What users ask for again and again, in the order in which they meet it, on models of NNX and Equinox.

Each test is one question. The line that answers it is as short as a user would write it.
"""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_equal
from compilations import Compilations
from flax import nnx
from public import PUBLIC

import gradtx

X = jax.random.normal(jax.random.key(1), (16, 4))
Y = jnp.sin(X.sum(1, keepdims=True))


class Network(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return self.head(self.norm(x))


class Module(eqx.Module):
    layers: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear
    slope: float = 1.0  # a Python float, which an unfiltered model may hold

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(self.slope * layer(x))
        return self.head(self.norm(x))


class WithNNX:
    """A network of Flax NNX, which the training changes in place."""

    def __init__(self, tx):
        self.tx, self.model = tx, Network(nnx.Rngs(0))
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)
        self.step = gradtx.make_nnx_step(lambda model, x, y: jnp.mean((model(x) - y) ** 2))

    def train(self, steps=1):
        for _ in range(steps):
            metrics = self.step(self.model, self.optimizer, X, Y)
        return metrics

    @property
    def params(self):
        # A copy, since the next step changes the model in place.
        return jax.tree.map(jnp.copy, nnx.state(self.model, nnx.Param))

    @property
    def state(self):
        return self.optimizer.opt_state

    @state.setter
    def state(self, state):
        self.optimizer.opt_state = state

    def go_on_with(self, tx):
        old, self.tx = self.optimizer, tx
        self.optimizer = nnx.Optimizer(self.model, tx, wrt=nnx.Param)
        state = gradtx.migrate(old, tx, nnx.state(self.model, nnx.Param))
        nnx.update(self.optimizer.opt_state, nnx.state(state))


class WithEquinox:
    """A module of Equinox, unfiltered."""

    def __init__(self, tx):
        k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        layers = [eqx.nn.Linear(4, 8, key=k1), eqx.nn.Linear(8, 8, key=k2)]
        self.tx, self.model = tx, Module(layers, eqx.nn.LayerNorm(8), eqx.nn.Linear(8, 1, key=k3))
        self.state = tx.init(self.model)
        self.step = gradtx.make_step(
            lambda model, x, y: jnp.mean((jax.vmap(model)(x) - y) ** 2), donate=False
        )

    def train(self, steps=1):
        for _ in range(steps):
            self.model, self.state, metrics = self.step(self.tx, self.model, self.state, X, Y)
        return metrics

    def go_on_with(self, tx):
        self.tx, self.state = tx, gradtx.migrate(self.state, tx, self.model)

    @property
    def params(self):
        return eqx.filter(self.model, eqx.is_array)


@pytest.fixture(params=[WithNNX, WithEquinox], ids=["flax_nnx", "equinox"])
def host(request):
    return request.param


def test_train_with_a_schedule(host):
    schedule = gradtx.warmup_cosine_decay_schedule(0.0, 0.05, warmup_steps=2, decay_steps=40)
    run = host(gradtx.adamw(schedule))
    first = run.train()["loss"]
    assert run.train(30)["loss"] < first / 2


def test_what_is_my_learning_rate_now(host):
    schedule = gradtx.linear_schedule(0.1, 0.0, 10)
    run = host(gradtx.adamw(schedule))
    assert gradtx.readings(run.state)["learning_rate"] == jnp.float32(0.1)  # before the first step
    assert run.train(4)["learning_rate"] == schedule(3)


def test_change_it_while_training_without_compiling_again(host):
    run = host(gradtx.tunable(gradtx.adamw(0.1)))
    run.train()
    run.state = gradtx.set(run.state, learning_rate=0.05)
    run.train()
    run.state = gradtx.set(run.state, learning_rate=0.01)
    compilations = Compilations()
    metrics = run.train()
    assert compilations.count == 0
    assert metrics["learning_rate"] == jnp.float32(0.01)
    assert gradtx.get(run.state, "learning_rate") == jnp.float32(0.01)


def test_write_it_in_a_config_file(host):
    tx = gradtx.chain(
        gradtx.clip_by_global_norm(1.0),
        gradtx.adamw(gradtx.warmup_cosine_decay_schedule(0.0, 1e-3, 10, 100), b2=0.95),
    )
    again = gradtx.from_config(json.loads(json.dumps(gradtx.to_config(tx))))
    assert again == gradtx.parse(str(tx)) == tx
    host(again).train()


def test_log_norms_before_and_after_clipping(host):
    run = host(
        gradtx.chain(
            gradtx.tap("gradients"),
            gradtx.clip_by_global_norm(1e-3),
            gradtx.tap("clipped"),
            gradtx.sgd(0.1),
            gradtx.tap("updates"),
        )
    )
    metrics = {name: float(x) for name, x in run.train().items()}
    norms = [metrics[name] for name in metrics if "norm" in name]
    assert len(norms) == 3
    assert max(norms) > 1e-3
    assert sum(np.isclose(x, 1e-3, rtol=1e-5) for x in norms) == 1
    assert sum(np.isclose(x, 1e-4, rtol=1e-5) for x in norms) == 1


def test_why_does_a_sweep_recompile_it_does_not():
    """Sixteen rates and four seeds are trained by one compiled program."""
    compiled = []

    def train(tx, key):
        compiled.append(tx)
        w = jax.random.normal(key, (3,))

        def body(carry, _):
            w, state = carry
            updates, state = tx.update(w, state, w)
            return (gradtx.apply_updates(w, updates), state), None

        (w, _), _ = jax.lax.scan(body, (w, tx.init(w)), length=10)
        return jnp.sum(w**2)

    txs = gradtx.grid(gradtx.adamw, learning_rate=np.logspace(-4, 0, 16).tolist())
    table = gradtx.sweep(train, txs, seeds=4, progress=False)
    assert len(compiled) == 1
    assert table.best.learning_rate in np.logspace(-4, 0, 16)


def test_freeze_these_layers_and_unfreeze_them_later(host):
    rule = gradtx.by_path({"head": "train"}, otherwise="frozen")
    frozen = gradtx.partition({"train": gradtx.adamw(0.1), "frozen": gradtx.freeze()}, rule)
    run = host(frozen)
    before = jax.tree.leaves(run.params)
    run.train()
    after = jax.tree.leaves(run.params)
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert 0 < sum(moved) < len(moved)

    later = gradtx.partition({"train": gradtx.adamw(0.1), "frozen": gradtx.adamw(0.1)}, rule)
    moments = gradtx.get(run.state, "train.mu")
    run.go_on_with(later)
    assert_trees_all_equal(
        *(jax.tree.leaves(x) for x in (moments, gradtx.get(run.state, "train.mu")))
    )
    run.train()
    moved = [
        not np.array_equal(a, b) for a, b in zip(after, jax.tree.leaves(run.params), strict=True)
    ]
    assert all(moved)


def test_no_decay_on_norms_and_biases(host):
    run = host(gradtx.adamw(0.1, weight_decay=0.1, mask=gradtx.decay_mask()))
    decays = {r.path: "decay" in str(r) for r in gradtx.routing(run.tx, run.params)}
    assert len(decays) == len([x for x in jax.tree.leaves(run.params) if hasattr(x, "shape")])
    one_axis = [path for path in decays if "bias" in path or "norm" in path]
    assert len(one_axis) == 5
    run.train()


def test_smaller_rates_near_the_input(host):
    run = host(gradtx.layerwise(gradtx.sgd(1.0), decay=0.5))
    plain = host(gradtx.sgd(1.0))
    start = run.params
    run.train(), plain.train()
    shrunk, full = (
        jax.tree.map(lambda a, b: jnp.abs(a - b).max(), x.params, start) for x in (run, plain)
    )
    ratios = {
        round(float(a / b), 4)
        for a, b in zip(jax.tree.leaves(shrunk), jax.tree.leaves(full), strict=True)
        if b > 0
    }
    assert len(ratios) > 1 and max(ratios) <= 1.0


def test_evaluate_the_averaged_weights(host):
    run = host(gradtx.averaged(gradtx.sgd(0.1), gradtx.mean_weight()))
    run.train(3)
    averaged = gradtx.eval_params(run.tx, run.model, run.state)  # a model, to be called as ever
    assert type(averaged) is type(run.model)
    trained, shown = (
        jax.vmap(model)(X) if host is WithEquinox else model(X) for model in (run.model, averaged)
    )
    assert shown.shape == trained.shape and not np.array_equal(shown, trained)


def test_lower_the_rate_on_a_plateau(host):
    run = host(
        gradtx.chain(gradtx.sgd(0.0), gradtx.reduce_on_plateau(factor=0.5, patience=1, cooldown=0))
    )
    run.train(6)  # a rate of 0: the loss does not fall
    assert float(optax.tree.get(run.state, "scale")) < 1


def test_print_what_i_built(host):
    run = host(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.muon(1e-3)))
    assert eval(repr(run.tx), dict(PUBLIC)) == run.tx
    drawn = str(gradtx.summarize(run.tx, run.params))
    assert "clip_by_global_norm" in drawn and "adamw" in drawn
    assert "head" in str(gradtx.routing(run.tx, run.params))
    assert "$$" in run.tx._repr_latex_()


def test_see_the_schedule():
    figure = gradtx.plot(gradtx.cosine_decay_schedule(1.0, 10))
    assert figure.axes

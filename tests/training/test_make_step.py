"""`make_step` and `make_nnx_step`: the numbers of a step by hand, in place, for every kind of model."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P
from zoo import exactly

import gradtx
from gradtx import adamw, averaged, chain, make_nnx_step, make_step, muon, sgd, tap, tunable

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.sin(X.sum(axis=1))


def make_params():
    k1, k2 = jax.random.split(jax.random.key(0))
    hidden, head = jax.random.normal(k1, (4, 8)), jax.random.normal(k2, (8,))
    return {"hidden": hidden, "head": head, "b": jnp.zeros(8)}


def loss(params, x, y):
    return jnp.mean((jnp.tanh(x @ params["hidden"] + params["b"][None]) @ params["head"] - y) ** 2)


STEP = make_step(loss)


def bytes_of(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_takes_the_steps_that_a_loop_by_hand_takes():
    @jax.jit
    def by_hand(tx, params, state):
        value, grads = jax.value_and_grad(loss)(params, X, Y)
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state, value

    tx = adamw(0.01)
    mine, theirs = ((make_params(), tx.init(make_params())) for _ in range(2))
    metrics, value = {}, None
    for _ in range(3):
        *mine, metrics = STEP(tx, *mine, X, Y)
        *theirs, value = by_hand(tx, *theirs)
    exactly((*mine, metrics["loss"]), (*theirs, value))
    assert sorted(metrics) == ["learning_rate", "loss"]
    assert metrics["learning_rate"] == jnp.float32(0.01)


def pairs_in_place(compiled):
    """The outputs of a compiled step that overwrite an argument, each with the argument's number."""
    header = compiled.as_text().split("\n")[0]
    return [(int(i), int(j)) for i, j in re.findall(r"\{(\d+)\}: \((\d+), \{\}", header)]


def all_in_place(compiled, tree):
    """Whether all arrays of a tree are updated in place, except scalars that the step does not read."""
    arrays = [x for x in jax.tree.leaves(tree) if x.ndim]
    aliased = compiled.memory_analysis().alias_size_in_bytes
    return bytes_of(arrays) <= aliased <= bytes_of(tree)


@pytest.mark.parametrize(
    "tx", [adamw(0.01), averaged(muon(0.01)), chain(tap("g"), sgd(0.1, 0.9))], ids=str
)
def test_parameters_and_state_are_updated_in_place_each_by_itself(tx):
    params = make_params()
    state = tx.init(params)
    compiled = STEP.lower(tx, params, state, X, Y).compile()
    pairs = pairs_in_place(compiled)
    # In the order of the arguments: a moment does not overwrite the parameter of the same shape.
    assert pairs == sorted(pairs) and [j for _, j in pairs] == sorted(j for _, j in pairs)
    assert all_in_place(compiled, (params, state))
    params, state, _ = STEP(tx, params, state, X, Y)
    assert not any(x.is_deleted() for x in jax.tree.leaves((params, state)))


def test_donated_arrays_are_deleted_and_others_stay():
    tx = sgd(0.1)
    for donate in (True, False):
        step, params = make_step(loss, donate=donate), make_params()
        step(tx, params, tx.init(params), X, Y)
        assert all(x.is_deleted() == donate for x in params.values())


def test_three_rates_are_compiled_once():
    step = make_step(loss)
    for rate in (0.1, 0.2, 0.3):
        tx = adamw(rate)
        *_, metrics = step(tx, make_params(), tx.init(make_params()), X, Y)
        assert metrics["learning_rate"] == jnp.float32(rate)
    assert step._cache_size() == 1


def test_runs_inside_scan_and_under_vmap():
    tx = adamw(jnp.array([0.01, 0.1]))

    def train(tx):
        def body(carry, _):
            *carry, metrics = STEP(tx, *carry, X, Y)
            return carry, metrics

        return jax.lax.scan(body, [make_params(), tx.init(make_params())], length=30)[1]

    swept = jax.jit(jax.vmap(train, in_axes=(gradtx.axes(tx),)))(tx)
    assert swept["loss"].shape == (2, 30)
    assert (swept["loss"][:, -1] < 0.7 * swept["loss"][:, 0]).all()


def test_metrics_hold_what_taps_record():
    tx = chain(tap("grads"), sgd(0.1))
    params = make_params()
    want = gradtx.global_norm(jax.grad(loss)(params, X, Y))
    *_, metrics = STEP(tx, params, tx.init(params), X, Y)
    np.testing.assert_allclose(metrics["grads/global_norm"], want, rtol=1e-6)


class asking(gradtx.Transform):
    """A transformation that uses the extra arguments: it adds up losses."""

    def update_tree(self, updates, state, params, extra):
        half = jax.tree.map(lambda p: 0.5 * p, params)
        same = jax.tree.map(lambda g, u: jnp.all(g == u), extra["grad"], updates)
        known = extra["value"] * extra["factor"] + extra["value_fn"](half)
        known = jnp.where(jnp.all(jnp.stack(jax.tree.leaves(same))), known, 0)
        return jax.tree.map(lambda u: jnp.full_like(u, known), updates), state


def test_transformations_get_the_loss_the_gradients_and_what_the_loss_returned():
    def with_aux(params, x, *, y):
        return loss(params, x, y), {"factor": jnp.float32(3.0), "x": x}

    step = make_step(with_aux, has_aux=True, extra_args=lambda aux: {"factor": aux["factor"]})
    before = make_params()
    half = jax.tree.map(lambda p: 0.5 * p, before)
    want = 3 * loss(before, X, Y) + loss(half, X, Y)
    after, _, metrics = step(asking(), make_params(), asking().init(before), X, y=Y)
    np.testing.assert_allclose(after["b"] - before["b"], want, rtol=1e-5)
    assert metrics["aux"]["x"].shape == X.shape


def test_the_learning_rate_falls_when_the_loss_that_the_step_passes_does_not():
    tx = chain(sgd(0.0), gradtx.reduce_on_plateau(factor=0.5, patience=2))
    params, state = make_params(), tx.init(make_params())
    for _ in range(3):
        params, state, _ = STEP(tx, params, state, X, Y)
    assert gradtx.get(state, "scale") == 0.5


def test_takes_optimizers_of_optax_that_use_the_loss():
    # The step of Polyak: the loss over the squared norm of its gradient.
    tx = optax.polyak_sgd(max_learning_rate=10.0)
    step = make_step(lambda w: jnp.sum(w**2))
    w, *_ = step(tx, jnp.array([3.0, 4.0]), tx.init(jnp.zeros(2)))
    np.testing.assert_allclose(w, [1.5, 2.0], rtol=1e-6)


def test_steps_downhill_for_complex_parameters():
    step = make_step(lambda p: jnp.abs(p["z"] - (1 + 2j)) ** 2)
    tx, params = sgd(0.25), {"z": jnp.asarray(0j, "complex64")}
    state = tx.init(params)
    for _ in range(30):
        params, state, _ = step(tx, params, state)
    np.testing.assert_allclose(params["z"], 1 + 2j, rtol=1e-5)


def test_integers_stay_and_python_numbers_are_trained_as_in_jax():
    step = make_step(lambda p: (p["w"] - 1) ** 2 + jnp.where(p["steps"].sum() == 3, 0.0, jnp.nan))
    tx, params = sgd(0.25), {"w": 0.0, "steps": jnp.arange(3), "none": None}
    params, state, _ = step(tx, params, tx.init(params))
    params, state, _ = step(tx, params, state)
    assert params["w"] == 0.75 and params["steps"].tolist() == [0, 1, 2] and params["none"] is None


class Network(eqx.Module):
    """A model with a function, a Python float that decides what is computed, and a counter."""

    mlp: eqx.nn.MLP
    dropout: eqx.nn.Dropout
    calls: jax.Array
    scale: float = 0.5

    def __call__(self, x, key):
        x = self.mlp(self.dropout(x, key=key))
        return x * self.scale if self.scale > 0 else x


def equinox_loss(model, x, y, key):
    keys = jax.random.split(key, len(x))
    return jnp.mean((jax.vmap(model)(x, keys) - y) ** 2)


def test_trains_an_equinox_model_without_a_filter():
    mlp = eqx.nn.MLP(4, "scalar", width_size=16, depth=1, key=jax.random.key(0))
    model = Network(mlp, eqx.nn.Dropout(0.1), jnp.arange(2))
    before = model.mlp.layers[0].weight.copy()
    tx, step = averaged(adamw(0.02)), make_step(equinox_loss)
    state = tx.init(model)
    args = (X, Y, jax.random.key(1))
    compiled = step.lower(tx, model, state, *args).compile()
    assert all_in_place(compiled, (eqx.filter(model, eqx.is_array), state))
    losses = []
    for i in range(40):
        model, state, metrics = step(tx, model, state, X, Y, jax.random.key(i))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0] and step._cache_size() == 1
    assert model.mlp.activation is mlp.activation and model.calls.tolist() == [0, 1]
    assert type(model.scale) is float and model.scale == 0.5 and type(model.dropout.p) is float
    assert not np.array_equal(before, model.mlp.layers[0].weight)
    copy = gradtx.eval_params(tx, model, state)
    assert jnp.isfinite(equinox_loss(eqx.nn.inference_mode(copy), *args))


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(self.dropout(nnx.relu(self.norm(self.hidden(x)))))[:, 0]


def nnx_loss(model, x, y):
    out = model(x)
    return jnp.mean((out - y) ** 2), {"out": out}


@pytest.fixture(scope="module")
def nnx_run():
    """A trained model, its optimizer, the step, and the metrics of every step."""
    model = NnxNetwork(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tunable(averaged(adamw(0.02)), "learning_rate"), wrt=nnx.Param)
    step = make_nnx_step(nnx_loss, has_aux=True)
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):  # Flax needs these
        return model, optimizer, step, [step(model, optimizer, X, Y) for _ in range(40)]


def test_trains_an_nnx_model_in_place(nnx_run):
    model, optimizer, _, metrics = nnx_run
    assert metrics[-1]["loss"] < 0.7 * metrics[0]["loss"] and optimizer.step[...] == 40
    assert sorted(metrics[0]) == ["aux", "learning_rate", "loss"]
    assert metrics[0]["aux"]["out"].shape == Y.shape
    assert not (model.norm.mean[...] == 0).all()  # what the forward pass changes is kept


def test_takes_the_steps_of_an_nnx_loop_by_hand():
    @nnx.jit
    def by_hand(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(X)[:, 0] - Y) ** 2))(model)
        optimizer.update(model, grads)
        return value

    ways = []
    step = make_nnx_step(lambda model, x, y: jnp.mean((model(x)[:, 0] - y) ** 2))
    with jax.numpy_rank_promotion("allow"):
        for take in (by_hand, lambda *args: step(*args, X, Y)["loss"]):
            model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
            optimizer = nnx.Optimizer(model, adamw(0.1), wrt=nnx.Param)
            ways.append(
                ([take(model, optimizer) for _ in range(3)], nnx.to_pure_dict(nnx.state(model)))
            )
    exactly(*ways)


def test_the_rate_of_an_nnx_optimizer_is_set_without_compiling(nnx_run):
    model, optimizer, step, _ = nnx_run
    optimizer.opt_state = nnx.data(gradtx.set(optimizer.opt_state, learning_rate=0.5))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert step(model, optimizer, X, Y)["learning_rate"] == 0.5


def test_nnx_models_are_updated_in_place(nnx_run):
    model, optimizer, step, _ = nnx_run
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        compiled = step.lower(model, optimizer, X, Y).compile()
    assert all_in_place(
        compiled, jax.tree.map(jnp.asarray, nnx.as_pure(nnx.state((model, optimizer))))
    )


def test_shardings_stay_those_of_the_parameters():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    over = NamedSharding(mesh, P("d"))
    step, tx = make_step(lambda w: jnp.sum((w - 1) ** 2)), averaged(adamw(0.1))
    w = jax.device_put(jnp.arange(8.0), over)
    state = tx.init(w)
    w, state, _ = step(tx, w, state)
    assert w.sharding == over and state.average.sharding == over
    assert gradtx.get(state, "mu").sharding == over


# What a type checker would refuse.
ANY: Any = [sgd(0.1), None, make_params()]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: make_step(ANY[0]), TypeError, r"pass the optimizer to `step`"),
        (lambda: make_step(ANY[1]), TypeError, r"`make_step\(loss=...\)` must be a function"),
        (lambda: make_nnx_step(ANY[1]), TypeError, r"`make_nnx_step\(loss=...\)` must be a function"),
        (lambda: make_step(loss, extra_args=dict), ValueError, "has_aux=True"),
        (lambda: STEP(ANY[2], (), X, Y), TypeError, r"Call `step\(tx, params, state, \*batch\)`"),
        (lambda: STEP(sgd(0.1), nnx.Linear(1, 1, rngs=nnx.Rngs(0)), ()), TypeError, "make_nnx_step"),
        (lambda: run(lambda p: (p.sum(), p)), TypeError, "pass `has_aux=True`"),
        (lambda: run(lambda p: p.sum(), has_aux=True), TypeError, "must return a pair"),
        (lambda: run(lambda p: p), TypeError, r"real scalar, .*shape \(2,\).*jnp.mean"),
        (
            lambda: make_nnx_step(nnx_loss)(nnx.Linear(1, 1, rngs=nnx.Rngs(0)), sgd(0.1)),
            TypeError,
            r"nnx.Optimizer.*`step\(model, optimizer, \*batch\)`",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_explained(call, error, says):
    with pytest.raises(error, match=re.compile(says, re.DOTALL)):
        call()


def run(loss, **options):
    make_step(loss, **options)(sgd(0.1), jnp.ones(2), sgd(0.1).init(jnp.ones(2)))

"""`averaged`: closed forms of every average in float64, where it starts, and where it may stand."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from numpy.testing import assert_allclose
from rounding import roundings
from zoo import SMALL, exactly, train, tree

import gradtx
from gradtx import (
    adamw,
    averaged,
    by_rank,
    cautious,
    chain,
    clip,
    ema_weight,
    eval_params,
    fanout,
    freeze,
    identity,
    masked,
    mean_weight,
    partition,
    polynomial_weight,
    power_weight,
    scale,
    sgd,
    tunable,
)  # fmt: skip

STEPS = 12
UPDATES = np.random.default_rng(0).normal(size=(STEPS, 5))
THETAS = np.cumsum(UPDATES, axis=0)  # the parameters after each step, which start at 0


def averages(*optimizers, updates=UPDATES, dtype="float32"):
    """For each optimizer the parameters to evaluate with after every step, in one program."""

    def body(carry, u):
        after, seen = [], []
        for tx, (params, state) in zip(optimizers, carry, strict=True):
            new, state = tx.update(-u, state, params)
            params = gradtx.apply_updates(params, new)
            after.append((params, state))
            seen.append(eval_params(tx, params, state, dtype="float32"))
        return after, seen

    start = jnp.zeros(updates.shape[1:], dtype)
    carry = [(start, tx.init(start)) for tx in optimizers]
    return jax.jit(lambda u: jax.lax.scan(body, carry, u)[1])(jnp.asarray(updates, dtype))


def weighted(weights):
    """The weighted means of all parameters so far, given each one's weight as a function of (t, T)."""
    means = []
    for last in range(1, STEPS + 1):
        w = np.array([weights(t, last) for t in range(1, last + 1)])
        means.append(w @ THETAS[:last] / w.sum())
    return np.array(means)


# Each average as its definition states it, by the weight of step t after T steps.
CLOSED = {
    "mean": (mean_weight(), lambda t, T: 1.0),
    "ema": (ema_weight(0.9), lambda t, T: 0.9 ** (T - t)),
    # Shamir & Zhang (2013), section 4: for a whole gamma the weights are rising factorials.
    "linear": (polynomial_weight(1.0), lambda t, T: t),
    "quadratic": (polynomial_weight(2.0), lambda t, T: t * (t + 1)),
    # Karras et al. (2023), section 3.1: the integral of tau^gamma from t - 1 to t.
    "power": (power_weight(6.94), lambda t, T: t**7.94 - (t - 1) ** 7.94),
    "power, fractional": (power_weight(0.5), lambda t, T: t**1.5 - (t - 1) ** 1.5),
}  # fmt: skip


def test_averages_are_those_of_their_definitions():
    seen = averages(*(averaged(sgd(1.0), weight) for weight, _ in CLOSED.values()))
    size = np.abs(THETAS).max()
    for (name, (_, weights)), got in zip(CLOSED.items(), seen, strict=True):
        # A step has five roundings, and the weight of gamma = 6.94 is the power of a rounded number.
        atol = size * roundings((5 + 8) * STEPS, "float32")
        assert_allclose(got, weighted(weights), rtol=0, atol=atol, err_msg=name)


def test_exponential_average_with_a_ramp_is_that_of_the_recurrence():
    """The decay of `tf.train.ExponentialMovingAverage(decay, num_updates)`, from initial parameters."""
    ramp, constant = averages(
        averaged(sgd(1.0), ema_weight(0.8, "ramp"), start=0),
        averaged(sgd(1.0), ema_weight(0.8, "constant"), start=0),
    )
    means = np.zeros((2, 5))
    for t, theta in enumerate(THETAS, 1):
        for mean, d in zip(means, (min(0.8, (1 + t) / (10 + t)), 0.8), strict=True):
            mean[:] = d * mean + (1 - d) * theta
        atol = 4 * roundings(5 / (1 - 0.8), "float32")
        assert_allclose(ramp[t - 1], means[0], rtol=0, atol=atol)
        assert_allclose(constant[t - 1], means[1], rtol=0, atol=atol)


def test_average_starts_and_is_taken_at_the_steps_that_were_asked_for():
    swa, tail, first = averages(
        averaged(sgd(1.0), mean_weight(), start=3, every=4),  # SWA of the steps 3, 7 and 11
        averaged(sgd(1.0), mean_weight(), start=8),
        averaged(sgd(1.0), mean_weight(), start=0),
    )
    atol = 4 * roundings(5 * STEPS, "float32")
    for t in range(1, STEPS + 1):
        taken = [s for s in (3, 7, 11) if s <= t] or [t]
        assert_allclose(swa[t - 1], THETAS[[s - 1 for s in taken]].mean(0), rtol=0, atol=atol)
        assert_allclose(tail[t - 1], THETAS[min(t, 8) - 1 : t].mean(0), rtol=0, atol=atol)
        assert_allclose(first[t - 1], THETAS[:t].sum(0) / (t + 1), rtol=0, atol=atol)


def test_until_the_start_and_with_the_weight_one_the_average_is_the_parameters():
    for tx in (averaged(adamw(0.1), start=5), averaged(adamw(0.1), lambda n: 1.0)):
        params, state = train(tx, tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2)])
        got = eval_params(tx, params, state)
        # The sum may be rounded once more where it is not fused with a product.
        jax.tree.map(lambda x, y: assert_allclose(x, y, rtol=1e-6, atol=1e-7), got, params)


def test_is_kept_in_float32_and_evaluated_in_the_dtype_of_the_parameters():
    tx = averaged(sgd(1e-3), ema_weight(0.9))
    params, state = train(tx, jnp.ones(3, "bfloat16"), [jnp.ones(3, "bfloat16")] * 4)
    mean = gradtx.get(state, "average")
    # An update of 0.001 is rounded away in bfloat16, and the sum before this rounding is averaged.
    assert mean.dtype == "float32" and (params == 1).all()
    assert_allclose(mean, 1 - 1e-3, rtol=2 * roundings(1, "bfloat16") * 1e-3)
    assert eval_params(tx, params, state).dtype == "bfloat16"
    assert eval_params(tx, params, state, dtype="float32").tolist() == mean.tolist()


def test_updates_and_the_inner_state_are_those_of_the_optimizer_alone():
    params, gradients = tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2, 3)]
    alone = train(adamw(0.1), params, gradients)
    with_average = train(averaged(adamw(0.1)), params, gradients)
    exactly((with_average[0], with_average[1].inner), alone)


def test_leaves_outside_of_the_mask_need_no_memory_and_stay_as_they_are():
    tx = averaged(sgd(0.1), mask=by_rank(2))
    params, state = train(tx, tree(shapes=SMALL), [tree(seed=i, shapes=SMALL) for i in (1, 2)])
    assert [x.shape for x in jax.tree.leaves(state.average)] == [SMALL["kernel"]]
    got = eval_params(tx, params, state)
    assert got["bias"] is params["bias"] and (got["kernel"] != params["kernel"]).all()


def inside(tx):
    """The average of a constant gradient wherever it lies, as a deviation from the parameters."""
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2), "steps": jnp.arange(2), "none": None}
    g = {"w": jnp.ones((2, 2)), "b": jnp.ones(2), "steps": None, "none": None}
    params, state = train(tx, params, [g] * 3)
    got = eval_params(tx, params, state)
    assert got["steps"] is params["steps"] and got["none"] is None
    return float(got["w"][0, 0] - params["w"][0, 0]), float(got["b"][0] - params["b"][0])


MEAN = averaged(sgd(0.1), mean_weight())


@pytest.mark.parametrize(
    ("tx", "both"),
    [
        (MEAN, True),
        (chain(clip(1.0), chain(identity(), MEAN), identity()), True),
        (tunable(MEAN), True),
        (gradtx.observe(chain(gradtx.tap("in"), MEAN, gradtx.tap("out"))), True),
        (averaged(MEAN, lambda n: 1 / (n + 1)), True),  # the outermost one counts
        (masked(MEAN, by_rank(2)), False),
        (partition({True: chain(MEAN), False: sgd(0.1)}, by_rank(2)), False),
        (gradtx.named_chain(("clip", clip(1.0)), ("mean", MEAN)), True),
    ],
    ids=str,
)
def test_is_found_wherever_it_lies(tx, both):
    w, b = inside(tx)
    assert_allclose(w, 0.1, rtol=1e-5)  # the mean of the last three parameters is one step behind
    assert_allclose(b, 0.1 * both, rtol=1e-5)


class TwiceState(NamedTuple):
    count: Any
    inner: Any


class twice(gradtx.Wrapper):
    """A wrapper that calls the inner transformation itself, and adds to its state."""

    keeps_updates = True

    def init_tree(self, params):
        return TwiceState(jnp.int32(0), self.inner.init_tree(params))

    def update_tree(self, updates, state, params, extra):
        out, inner = self.inner.update_tree(updates, state.inner, params, extra)
        return out, state._replace(inner=inner)


class plain(gradtx.Wrapper):
    """A wrapper that calls the inner transformation itself, and has its state."""

    keeps_updates = True

    def update_tree(self, updates, state, params, extra):
        return self.inner.update_tree(updates, state, params, extra)


@pytest.mark.parametrize(
    "tx", [plain(MEAN), twice(chain(plain(MEAN))), chain(twice(MEAN))], ids=str
)
def test_is_found_in_wrappers_that_call_the_optimizer_themselves(tx):
    assert_allclose(inside(tx), 0.1, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: chain(MEAN, scale(0.5)),
        lambda: chain(chain(clip(1.0), MEAN), identity(), freeze(by_rank(1))),
        lambda: gradtx.named_chain(("mean", MEAN), ("half", scale(0.5))),
    ],
)
def test_what_changes_the_updates_afterwards_is_refused_at_once(make):
    with pytest.raises(TypeError, match=r"follows it in a chain.*Put the whole optimizer inside"):
        make()


@pytest.mark.parametrize("tx", [cautious(MEAN), fanout("add", MEAN, scale(2.0))], ids=str)
def test_what_changes_the_updates_around_it_is_refused_before_the_first_step(tx):
    with pytest.raises(TypeError, match="around it changes these updates"):
        tx.init(jnp.ones((2, 2)))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: averaged(sgd(0.1), 0.999), TypeError, r"averaged\(tx, gradtx.ema_weight\(0.999\)\)"),
        (lambda: averaged(sgd(0.1), start=-1), ValueError, r"start=-1.*0 or more"),
        (lambda: averaged(sgd(0.1), every=0), ValueError, r"every=0.*1 or more"),
        (lambda: averaged(sgd(0.1), every=2.5), TypeError, "must be a whole number"),  # pyright: ignore
    ],
)  # fmt: skip
def test_refuses_what_is_not_an_average(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_an_infinite_parameter_does_not_outlive_its_weight():
    tx = averaged(sgd(1.0), mean_weight(), start=2)
    state = tx.init(jnp.zeros(2))
    for gradient in (-jnp.inf, 1.0):
        _, state = tx.update(jnp.full(2, gradient), state, jnp.zeros(2))
    assert gradtx.get(state, "average").tolist() == [-1.0, -1.0]


def test_lies_on_devices_like_the_parameters():
    mesh = jax.make_mesh((4,), ("d",))
    over = NamedSharding(mesh, P("d"))
    w = jax.device_put(jnp.arange(8.0), over)
    tx = averaged(adamw(0.1))
    state = tx.init(w)
    assert state.average.sharding == over
    _, state = jax.jit(tx.update)(w, state, w)
    assert state.average.sharding == over
    assert eval_params(tx, w, state).sharding == over


def test_is_swept_over_decays():
    txs = gradtx.stack([averaged(sgd(1.0), ema_weight(b)) for b in (0.5, 0.9)])

    def last(tx):
        params, state = train(tx, jnp.zeros(5), list(jnp.asarray(-UPDATES[:4], "float32")))
        return eval_params(tx, params, state)

    got = jax.vmap(last, in_axes=(gradtx.axes(txs),))(txs)
    for mean, b in zip(got, (0.5, 0.9), strict=True):
        w = b ** np.arange(3, -1, -1)
        want = w @ THETAS[:4] / w.sum()
        assert_allclose(mean, want, rtol=0, atol=4 * roundings(5 * 4 / (1 - b), "float32"))


def test_works_inside_multi_steps():
    tx = optax.MultiSteps(averaged(sgd(1.0), mean_weight()), every_k_schedule=2)
    params, state = jnp.zeros(5), tx.init(jnp.zeros(5))
    with jax.numpy_dtype_promotion("standard"):  # for the arithmetic of Optax
        for u in UPDATES:
            updates, state = tx.update(jnp.asarray(-u, "float32"), state, params)
            params = optax.apply_updates(params, updates)
    got = eval_params(averaged(sgd(1.0), mean_weight()), params, state.inner_opt_state)
    # A step of `MultiSteps` is the mean of two gradients.
    want = np.cumsum(UPDATES.reshape(-1, 2, 5).mean(1), axis=0).mean(0)
    assert_allclose(got, want, rtol=0, atol=4 * roundings(8 * STEPS, "float32"))


def test_evaluates_flax_models_in_one_line():
    from flax import nnx
    from flax.training.train_state import TrainState

    tx = averaged(sgd(0.1), mean_weight())
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    state = TrainState.create(apply_fn=lambda: None, params=params, tx=tx)
    for _ in range(3):
        optimizer.update(model, nnx.state(model, nnx.Param))
        state = state.apply_gradients(grads=state.params)
    want = eval_params(state.tx, state.params, state.opt_state)
    trained = jax.tree.map(jnp.copy, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    copy = eval_params(optimizer.tx, model, optimizer.opt_state)
    exactly(nnx.to_pure_dict(nnx.state(copy, nnx.Param)), want)
    exactly(nnx.to_pure_dict(nnx.state(model, nnx.Param)), trained)
    assert type(copy) is nnx.Linear and copy(jnp.ones((1, 2))).shape == (1, 1)


def test_evaluates_an_equinox_model_in_one_line():
    import equinox as eqx

    tx = averaged(sgd(0.1), mean_weight())
    model = eqx.nn.MLP(2, 1, 4, depth=1, key=jax.random.key(0))
    updates, state = tx.update(eqx.filter(model, eqx.is_array), tx.init(model), model)
    trained = gradtx.apply_updates(model, updates)
    copy = eval_params(tx, trained, state)
    assert copy.activation is model.activation
    for x, y in zip(
        *(jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (copy, trained)), strict=True
    ):
        assert_allclose(x, y, rtol=1e-6)

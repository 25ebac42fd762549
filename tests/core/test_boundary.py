"""The boundary of `init` and `update`: what they take, what they refuse, and what errors say."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from zoo import GRADIENT, PARAMS, fading, same, train, updated

import gradtx
from gradtx import (
    Elementwise,
    Hyper,
    Transform,
    adam,
    adamw,
    chain,
    identity,
    muon,
    partition,
    scale_by_learning_rate,
    scale_by_momentum,
    sgd,
)


@pytest.mark.parametrize(
    "tx",
    [
        sgd(jnp.full(3, 0.1)),
        gradtx.chain(gradtx.clip_by_global_norm(jnp.ones(3)), adam(0.1)),
        gradtx.partition({"a": adam(0.1, b1=jnp.full(3, 0.9))}, lambda *_: "a"),
    ],
)
def test_a_sweep_that_is_not_mapped_over_is_refused(tx):
    g = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"(learning_rate|max_norm|b1)=.*vmap"):
        tx.update(g, tx.init(g))


@pytest.mark.parametrize("tx", [adam(0.1), gradtx.muon(0.1), sgd(0.1, momentum=0.9)], ids=repr)
def test_a_state_of_another_optimizer_is_named_as_such(tx):
    for other in (adamw(0.1), optax.adam(0.1), partition({"c": sgd(0.1)}, lambda *_: "c")):
        with pytest.raises(ValueError, match=r"state is not one that `init` of .* makes"):
            tx.update(GRADIENT, other.init(PARAMS), PARAMS)


def test_keys_of_random_numbers_may_stand_in_a_state():
    class KeyState(NamedTuple):
        key: Any

    start = jax.random.key(0)

    class jitter(gradtx.Elementwise):
        def init_leaf(self, param):
            return KeyState(gradtx.shared(start))

        def begin(self, state, measured):
            return KeyState(jax.random.split(state.key)[0]), None

        def update_leaf(self, update, state, param, values):
            return update, state

    tx = chain(jitter(), optax.add_noise(0.1, 0.5, 0), sgd(0.1))
    state = tx.init(PARAMS)
    for step in (tx.update, jax.jit(tx.update)):
        _, new = step(GRADIENT, state, PARAMS)
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
        assert not (jax.random.key_data(new[0].key) == jax.random.key_data(state[0].key)).all()


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_parameters_of_eight_bits_train(dtype):
    params = {"kernel": jnp.ones((2, 3), dtype), "bias": jnp.ones(3, dtype)}
    for tx in (adamw(0.1), gradtx.muon(0.1), gradtx.freeze(), sgd(0.1, momentum=0.9)):
        state = tx.init(params)
        for step in (tx.update, jax.jit(tx.update)):
            updates, new = step(params, state, params)
            assert zoo.types(new) == zoo.types(state)
            assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
        moved = gradtx.apply_updates(params, updates)
        assert {x.dtype for x in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_an_update_of_eight_bits_is_at_most_the_largest_number(dtype):
    params = jnp.array([1.0, -1.0, 0.0], dtype)
    updates, _ = sgd(1e5).update(params, sgd(1e5).init(params), params)
    largest = float(jnp.finfo(dtype).max)
    np.testing.assert_array_equal(np.asarray(updates).astype("f4"), [-largest, largest, 0])


def test_the_state_of_a_leaf_may_follow_its_shape():
    class RowState(NamedTuple):
        largest: Any

    class by_rows(gradtx.Elementwise):
        def init_leaf(self, param):
            return RowState(jnp.zeros(param.shape[0]))

        def update_leaf(self, update, state, param):
            largest = jnp.maximum(state.largest, jnp.max(jnp.abs(update), axis=1))
            return update / largest[:, None], RowState(largest)

    g = jnp.array([[1.0, -2.0], [4.0, 1.0]])
    same(by_rows().update(g, by_rows().init(g))[0], g / jnp.array([[2.0], [4.0]]))


def test_an_error_in_one_leaf_names_the_leaf():
    class picky(gradtx.Elementwise):
        def update_leaf(self, update, state, param):
            return jnp.reshape(update, (3,)), state

    with pytest.raises(TypeError) as caught:
        picky().update({"a": {"w": jnp.ones(2)}}, picky().init({"a": {"w": jnp.ones(2)}}))
    assert any("`a/w`, of shape (2,)" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("tx", [adam(1e-3), sgd(0.1, 0.9), chain(gradtx.clip(1.0), adam(0.1))])
@pytest.mark.parametrize("shape", [(2,), (2, 3), (), (1, 3)], ids=str)
def test_a_gradient_of_another_shape_is_named_also_without_parameters(tx, shape):
    params, g = {"a": {"w": jnp.ones(3)}}, {"a": {"w": jnp.ones(shape)}}
    state = tx.init(params)
    with pytest.raises(
        ValueError, match=r"a/w` has shape \(3,\) instead of (?s:.*)a gradient does not"
    ):
        tx.update(g, state)
    with pytest.raises(ValueError, match="The gradient at `a/w` has shape"):
        tx.update(g, state, params)


def test_an_axis_that_is_not_bound_is_named():
    tx = gradtx.clip_by_global_norm(1.0, axis_name="devices")
    with pytest.raises(ValueError, match=r"`axis_name` .*'devices'.*jax.shard_map"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_a_class_for_one_array_works_on_trees():
    class AverageState(NamedTuple):
        mean: Any

    class follow(Elementwise):
        """Half of the way to the parameter, averaged."""

        decay: Hyper = 0.5
        needs_params = True

        def init_leaf(self, param):
            return AverageState(jnp.zeros_like(param))

        def update_leaf(self, update, state, param):
            mean = self.decay * state.mean + (1 - self.decay) * (param - update)
            return mean, AverageState(mean)

    tx = chain(follow(0.25), scale_by_learning_rate(fading))
    params, state = train(tx, PARAMS, [GRADIENT])
    want = jax.tree.map(lambda p, g: p - 0.5 * 0.75 * (p - g), PARAMS, GRADIENT)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, want)
    assert state[0].mean["bias"].shape == (3,)
    scheduled = follow(lambda step: 0.25)
    same(updated(scheduled), updated(follow(0.25)))


def test_a_state_of_another_structure_is_refused_by_name():
    class forgetful(Elementwise):
        def init_leaf(self, param):
            return (param,)

        def update_leaf(self, update, state, param):
            return update, ()

    with pytest.raises(TypeError, match="forgetful"):
        updated(forgetful())


def test_an_error_of_the_users_code_is_raised_unchanged_where_the_state_cannot_be_checked():
    class needs_value(Transform):
        def init_tree(self, params):
            return jax.tree.map(jnp.zeros_like, params)

        def update_tree(self, updates, state, params, extra):
            return extra["value"], state

    tx = needs_value()
    with pytest.raises(KeyError, match="value"):
        tx.update({"w": jnp.ones(2), "b": None}, tx.init({"w": jnp.ones(2), "b": jnp.ones(2)}))


def test_parameters_may_be_called_what_fields_of_states_are():
    params = {"count": jnp.ones(2), "mu": jnp.ones(2)}
    state = gradtx.set(adam(0.1).init(params), count=5, mu=jax.tree.map(lambda x: 7 * x, params))
    assert int(state[0].count) == 5
    same(gradtx.get(state, "mu"), jax.tree.map(lambda x: 7 * x, params))
    same(gradtx.get(state, "nu"), jax.tree.map(jnp.zeros_like, params))
    for value in (3.0, {"count": jnp.ones(2)}, {"count": jnp.ones(3), "mu": jnp.ones(2)}):
        with pytest.raises(ValueError, match=r"`set`.*mu.*(structure|shape)"):
            gradtx.set(state, mu=value)


def test_updates_for_another_state_are_refused_even_without_parameters():
    with jax.numpy_rank_promotion("allow"):
        tx = scale_by_momentum()
        state = tx.init({"a": jnp.ones(3)})
        for shape in ((2, 3), (1,), ()):
            with pytest.raises(ValueError, match="shape"):
                tx.update({"a": jnp.ones(shape)}, state)
        with pytest.raises(ValueError):
            tx.update({"b": jnp.ones(3)}, state)


def test_the_learning_rate_is_right_before_the_first_step():
    rate = jnp.float32(0.25)
    for given in (0.25, rate, optax.constant_schedule(0.25), gradtx.inverse_time(0.5) * 0.25):
        auxiliary = lambda x: muon(0.1, auxiliary=sgd(x))
        for make in (sgd, adamw, lambda x: gradtx.tunable(sgd(x)), auxiliary):
            for init in (make(given).init, jax.jit(make(given).init)):
                state = init({"b": jnp.ones(3), "w": jnp.ones((2, 2))})
                name = (
                    "adamw.last_learning_rate" if make(given).traits.whole else "last_learning_rate"
                )
                assert gradtx.get(state, name) == 0.25
                assert gradtx.get(state, name) is not rate
    # A sweep that is not mapped keeps a scalar.
    state = sgd(jnp.array([0.1, 0.2])).init(jnp.ones(2))
    assert gradtx.get(state, "last_learning_rate").shape == ()


def test_learning_rate_can_be_a_schedule_and_is_recorded():
    tx = chain(identity(), scale_by_learning_rate(fading))
    state = tx.init(PARAMS)
    assert float(gradtx.get(state, "last_learning_rate")) == 0.5  # that of the first step
    for step in range(3):
        updates, state = tx.update(GRADIENT, state)
        rate = 0.5 / (1 + step)
        assert float(gradtx.get(state, "last_learning_rate")) == pytest.approx(rate)
        jax.tree.map(
            lambda u, g, r=rate: np.testing.assert_allclose(u, -r * g, rtol=1e-6), updates, GRADIENT
        )

"""States that the ecosystem knows: Optax's classes, names and checkpoints, and what converts between."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import zoo
from shares import share
from zoo import SMALL, fading, train, tree

import gradtx

PARAMS = tree(shapes=SMALL)
GRADIENTS = [tree(seed=seed, shapes=SMALL) for seed in range(1, 7)]
RECIPES = [row for row in zoo.ROWS if isinstance(row.make(), gradtx.Recipe)]


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("row", share(RECIPES, "convert", 6), ids=str)
def test_the_named_state_and_that_of_the_composition_convert_into_each_other(row):
    tx = row.make()
    _, state = train(tx, PARAMS, GRADIENTS[:2])
    wide = gradtx.expanded_state(tx, state, PARAMS)
    assert jax.tree.structure(wide) == jax.tree.structure(tx.expand().init(PARAMS))
    same(gradtx.recipe_state(tx, wide, PARAMS), state)
    # The composition goes on from there as the recipe does.
    for a, b in zip(
        *(jax.tree.leaves(u) for u in (
            tx.update(GRADIENTS[2], state, PARAMS)[0],
            tx.expand().update(GRADIENTS[2], wide, PARAMS)[0],
        )),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)


# Where Optax has the setting, the state has Optax's structure but for the learning rate's own part.
TWINS = [
    ("scale_by_adam()", optax.scale_by_adam()),
    ("scale_by_amsgrad()", optax.scale_by_amsgrad()),
    ("scale_by_rms()", optax.scale_by_rms()),
    ("scale_by_adagrad()", optax.scale_by_rss()),
    ("scale_by_adadelta()", optax.scale_by_adadelta()),
    ("scale_by_momentum(0.9, 'heavy_ball')", optax.trace(0.9)),
    ("trace(0.9, nesterov=True)", optax.trace(0.9, nesterov=True)),
    ("ema(0.9)", optax.ema(0.9)),
    ("clip(1.0)", optax.clip(1.0)),
    ("clip_by_global_norm(1.0)", optax.clip_by_global_norm(1.0)),
    ("identity()", optax.identity()),
    ("decoupled_weight_decay(0.1)", optax.add_decayed_weights(0.1)),
    ("decoupled_weight_decay(0.1, {'kernel': True, 'bias': False})",
     optax.add_decayed_weights(0.1, {"kernel": True, "bias": False})),
    ("masked(scale_by_adam(), {'kernel': True, 'bias': False})",
     optax.masked(optax.scale_by_adam(), {"kernel": True, "bias": False})),
    ("partition({'a': scale_by_adam(), 'b': trace(0.9)}, {'kernel': 'a', 'bias': 'b'})",
     optax.partition({"a": optax.scale_by_adam(), "b": optax.trace(0.9)},
                     {"kernel": "a", "bias": "b"})),
]  # fmt: skip
OPTIMIZERS = [
    ("sgd(0.1)", optax.sgd(0.1)),
    ("sgd(0.1, momentum=0.9, nesterov=True)", optax.sgd(0.1, 0.9, nesterov=True)),
    ("adam(0.1)", optax.adam(0.1)),
    ("adam(fading)", optax.adam(fading)),
    ("adamw(0.1)", optax.adamw(0.1)),
    ("adamw(0.1, mask={'kernel': True, 'bias': False})",
     optax.adamw(0.1, mask={"kernel": True, "bias": False})),
    ("nadam(0.1)", optax.nadam(0.1)),
    ("nadamw(0.1)", optax.nadamw(0.1)),
    ("amsgrad(0.1)", optax.amsgrad(0.1)),
    ("rmsprop(0.1)", optax.rmsprop(0.1)),
    ("rmsprop(0.1, momentum=0.9)", optax.rmsprop(0.1, momentum=0.9)),
    # Optax keeps the average of squares here, and gradtx the variance.
    ("rmsprop(0.1, centered=True)", optax.rmsprop(0.1, centered=True)),
    ("adagrad(0.1)", optax.adagrad(0.1)),
    ("adadelta(0.1)", optax.adadelta(0.1)),
    ("chain(clip_by_global_norm(1.0), adamw(fading))",
     optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(fading))),
]  # fmt: skip


@pytest.mark.parametrize(("code", "optax_tx"), TWINS, ids=[code for code, _ in TWINS])
def test_a_state_has_the_structure_of_optaxs(code, optax_tx):
    ours = zoo.evaluate(code)
    same(ours.init(PARAMS), optax_tx.init(PARAMS))


@pytest.mark.parametrize(("code", "optax_tx"), OPTIMIZERS, ids=[code for code, _ in OPTIMIZERS])
def test_a_run_of_optax_goes_on_from_its_state(code, optax_tx):
    ours, params, old = zoo.evaluate(code), PARAMS, optax_tx.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):  # Optax's own need it
        for g in GRADIENTS[:3]:
            updates, old = optax_tx.update(g, old, params)
            params = gradtx.apply_updates(params, updates)
    target = gradtx.from_optax(ours, params=params)
    assert jax.tree.structure(target) == jax.tree.structure(old)
    assert [x.shape for x in jax.tree.leaves(target)] == [x.shape for x in jax.tree.leaves(old)]
    new, a, b = gradtx.from_optax(ours, old, params), params, params
    assert zoo.types(new) == zoo.types(ours.init(params))
    for g in GRADIENTS[3:]:
        with jax.numpy_dtype_promotion("standard"):
            updates, old = optax_tx.update(g, old, a)
        a = gradtx.apply_updates(a, updates)
        updates, new = ours.update(g, new, b)
        b = gradtx.apply_updates(b, updates)
    # Optax's decays are rounded to float32: b2 = .999 moves the second moment by 1.3e-5.
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5 * float(jnp.max(jnp.abs(x))))


def test_a_checkpoint_of_optax_is_restored_and_continued(tmp_path):
    optax_tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
    ours = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(0.1))
    params, old = PARAMS, optax_tx.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        for g in GRADIENTS[:3]:
            updates, old = optax_tx.update(g, old, params)
            params = gradtx.apply_updates(params, updates)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "optax", old)
        checkpointer.wait_until_finished()
        target = gradtx.from_optax(ours, params=params)
        restored = checkpointer.restore(tmp_path / "optax", target)
    state = gradtx.from_optax(ours, restored, params)
    with jax.numpy_dtype_promotion("standard"):
        want, _ = optax_tx.update(GRADIENTS[3], old, params)
    got, state = ours.update(GRADIENTS[3], state, params)
    assert int(optax.tree.get(state, "count")) == 4
    for x, y in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-7)


def test_a_state_of_other_settings_is_refused_with_its_place():
    for optax_tx in (optax.sgd(0.1, 0.9), optax.chain(optax.clip(1.0), optax.adamw(0.1))):
        with pytest.raises(ValueError, match=r"`from_optax`: at `\S+` gradtx keeps"):
            gradtx.from_optax(gradtx.adamw(0.1), optax_tx.init(PARAMS), PARAMS)


def test_hosts_read_a_state_as_they_read_optaxs():
    tx = gradtx.adamw(0.1, mask={"kernel": True, "bias": False})
    _, state = train(tx, PARAMS, GRADIENTS)
    # By position, as a guide of Flax does.
    assert state[0].mu["kernel"].shape == PARAMS["kernel"].shape
    # By class, as hosts do that look for Adam's moments.
    is_adam = lambda x: isinstance(x, optax.ScaleByAdamState)
    adam = [x for x in jax.tree.leaves(state, is_leaf=is_adam) if is_adam(x)]
    assert len(adam) == 1 and int(adam[0].count) == len(GRADIENTS)
    # By name, with one count.
    assert int(optax.tree.get(state, "count")) == len(GRADIENTS)
    assert isinstance(state[1], optax.MaskedState)
    # By editing.
    cold = optax.tree.set(state, count=0, mu=jax.tree.map(jnp.zeros_like, PARAMS))
    assert int(cold[0].count) == 0 and not any(x.any() for x in jax.tree.leaves(cold[0].mu))
    tx.update(GRADIENTS[0], cold, PARAMS)
    # Leaves of other groups.
    frozen = gradtx.partition({True: tx, False: gradtx.freeze()}, gradtx.by_rank(2)).init(PARAMS)
    inner = frozen.inner_states[True].inner_state[0]
    assert isinstance(inner.nu["bias"], optax.MaskedNode)


def test_map_params_works_on_masks_that_are_trees_as_on_optaxs():
    mask = {"kernel": True, "bias": False}
    for tx in (
        gradtx.masked(gradtx.adam(0.1), mask),
        gradtx.muon(0.1),
        gradtx.adamw(0.1, mask=mask),
    ):
        state = tx.init(PARAMS)
        doubled = optax.tree.map_params(tx, lambda x: x + 1, state)
        assert jax.tree.structure(doubled) == jax.tree.structure(state)
        moments = zip(jax.tree.leaves(state), jax.tree.leaves(doubled), strict=True)
        assert any((b == a + 1).all() for a, b in moments if np.ndim(a))


@pytest.mark.parametrize("empty", [(), None, {}, [], optax.EmptyState()], ids=repr)
def test_a_transformation_without_state_takes_every_empty_one(empty):
    for tx in (gradtx.clip(1.0), gradtx.clip_by_global_norm(1.0), gradtx.scale(0.5)):
        updates, state = tx.update(PARAMS, empty)
        assert state == optax.EmptyState() and jax.tree.structure(updates) == jax.tree.structure(
            PARAMS
        )
    tx = gradtx.chain(gradtx.clip(1.0), gradtx.scale_by_adam(), gradtx.scale(0.1))
    _, adam, _ = tx.init(PARAMS)
    updates, state = tx.update(PARAMS, (empty, adam, empty), PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(PARAMS))
    with pytest.raises(ValueError, match=r"not one that `init`|is missing"):
        tx.update(PARAMS, empty, PARAMS)


def test_states_of_version_0_1_are_carried_over():
    """The states as version 0.1 made them, and as Orbax restores them without a target."""
    mu, nu = tree(seed=8, shapes=SMALL), jax.tree.map(jnp.square, tree(seed=9, shapes=SMALL))
    count, rate = jnp.int32(7), jnp.float32(0.1)
    m = {"count": count, "inner": {"mu": mu}, "log_kept": []}
    v = {"count": count, "inner": {"nu": nu}, "log_kept": []}
    old = [[m, [v, []]], [], {"count": count, "last_learning_rate": rate}]
    state = gradtx.from_version_0_1(gradtx.adamw(0.1), old, PARAMS)
    same(state[0], optax.ScaleByAdamState(count, mu, nu))
    assert int(state[2].step) == 7 and float(state[2].last_learning_rate) == np.float32(0.1)

    kept = jnp.zeros(2)  # NAdam kept the logarithm of a product that it needs no longer
    n = {"count": count, "log_kept": kept, "mu": mu}
    old = [[n, [v, []]], {"count": count, "last_learning_rate": rate}]
    state = gradtx.from_version_0_1(gradtx.nadam(0.1), old, PARAMS)
    same(state[0], optax.ScaleByAdamState(count, mu, nu))

    old = [{"mu": mu}, {"count": count, "last_learning_rate": rate}]
    state = gradtx.from_version_0_1(gradtx.sgd(0.1, momentum=0.9), old, PARAMS)
    same(state[0], optax.TraceState(mu))
    with pytest.raises(ValueError, match=r"`from_version_0_1`: the state of `adam\(0.1\)` holds"):
        gradtx.from_version_0_1(gradtx.adam(0.1), old, PARAMS)


# The first norms of `clip_by_average_norm` are bounded by `max_norm`, however large the gradients are.
# What `running_max` keeps has the degree of the transformation inside.
OTHERS = "clip_by_average_norm", "running_max"
DEGREES = [row for row in zoo.ROWS if row.make().degrees and not row.code.startswith(OTHERS)]


@pytest.mark.parametrize("row", DEGREES, ids=str)
def test_a_field_of_a_state_has_its_degree_in_the_gradient(row):
    """Gradients twice as large make a field of degree d 2**d times as large.

    They are large enough for starts and epsilons not to count.
    """
    tx = row.make()
    params = {"kernel": jnp.zeros((2, 3))}
    gradients = [{"kernel": 1e6 * g["kernel"]} for g in GRADIENTS[:3]]
    _, once = train(tx, params, gradients)
    _, twice = train(tx, params, jax.tree.map(lambda g: 2 * g, gradients))
    checked = 0
    for name, degree in tx.degrees.items():
        try:
            a, b = (gradtx.get(state, name) for state in (once, twice))
        except KeyError:
            continue
        checked += 1
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(y, 2.0**degree * x, rtol=1e-5)
    assert checked


def test_foreign_states_with_python_numbers_work():
    counting = optax.GradientTransformation(
        lambda params: {"count": 0}, lambda u, s, p=None: (u, {"count": s["count"] + 1})
    )
    tx = gradtx.chain(counting, gradtx.scale(0.5))
    state = tx.init(PARAMS)
    for step in (tx.update, jax.jit(tx.update)):
        _, state = step(PARAMS, state)
    assert int(state[0]["count"]) == 2 and state[0]["count"].dtype == jnp.int32


def test_an_integer_gradient_is_an_error_without_parameters_too():
    with pytest.raises(ValueError, match=r"gradient at `\.` is int32.*pass the parameters"):
        gradtx.scale(2.0).update(jnp.array([-1, 0, 1]), ())

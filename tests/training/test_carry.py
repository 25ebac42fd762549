"""`migrate`: what a run takes along when its optimizer changes in the middle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo
from rounding import roundings
from zoo import same, types

import gradtx
from gradtx import adam, adamw, by_path, chain, clip_by_global_norm, freeze, migrate, partition, sgd

SHAPES = {"embed": (3, 2), "layers": [zoo.SMALL, zoo.SMALL], "head": {"kernel": (2, 3)}}
PARAMS, GRADIENT = zoo.tree(shapes=SHAPES), zoo.tree(seed=1, shapes=SHAPES)


def after(tx, steps=3, params=PARAMS):
    """The state after a few steps with equal gradients."""
    state = tx.init(params)
    for _ in range(steps):
        _, state = tx.update(GRADIENT, state, params)
    return state


def reported(state, tx, params=PARAMS):
    """The new state, and the report."""
    reports = []
    new = migrate(state, tx, params, report=reports.append)
    assert types(new) == types(tx.init(params))
    return new, reports[0]


def falling(step):
    return 0.1 / (1 + step)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (adam(0.1), adam(0.2, b2=0.99)),
        (adam(0.1), adamw(0.1)),
        (adamw(0.1), adam(0.1)),
        (adamw(0.1), adamw(falling)),
        (adamw(falling), adamw(0.1)),
        (adamw(0.1), chain(clip_by_global_norm(1.0), adamw(0.1))),
        (chain(clip_by_global_norm(1.0), adamw(0.1)), adamw(0.1)),
        (chain(sgd(0.1, 0.9), adam(0.1)), chain(gradtx.clip(1.0), sgd(0.1, 0.9), adam(0.1))),
        (partition({"a": adam(0.1)}, lambda path, leaf: "a"), adam(0.1)),
        (gradtx.muon(0.1), gradtx.muon(0.1, scaling="spectral", weight_decay=0.1)),
        (gradtx.muon(0.1), chain(clip_by_global_norm(1.0), gradtx.muon(0.1))),
    ],
    ids=zoo.named,
)
def test_everything_is_carried_over_where_both_have_the_same_arrays(old, new):
    state = after(old)
    moved, report = reported(state, new)
    same(jax.tree.leaves(moved), jax.tree.leaves(state))
    assert not report.started and not report.left
    assert repr(report) == f"{len(jax.tree.leaves(state))} arrays are carried over."


def test_a_run_that_changes_its_optimizer_goes_on_as_if_it_had_always_had_the_new_one():
    clipped = chain(clip_by_global_norm(1e9), adamw(0.1))
    state = migrate(after(adam(0.1)), clipped, PARAMS)
    carried, own = (clipped.update(GRADIENT, s, PARAMS)[0] for s in (state, after(clipped)))
    # The moments come from two programs, in which a product and a sum may be rounded once or twice. Four
    # roundings in each moment enter the quotient.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=roundings(8, "float32")), carried, own)


def test_a_schedule_goes_on_at_the_step_of_the_counter_beside_it():
    state = after(adamw(0.1))
    new, report = reported(state, adamw(0.1, weight_decay=falling))
    assert new[1].count == 3 and not report.started
    back, report = reported(new, adamw(0.1))
    same(back, state)
    assert report.left == ("1/count",)


FROZEN = partition({"on": adamw(falling), "off": freeze()}, by_path({"embed": "off"}, "on"))
THAWED = partition({"on": adamw(falling), "late": adamw(falling)}, by_path({"embed": "late"}, "on"))


def test_unfreezing_starts_the_new_group_and_continues_the_old_one():
    state = after(FROZEN)
    new, report = reported(state, THAWED)
    groups = new.inner_states
    same(groups["on"], state.inner_states["on"])
    late = gradtx.get(groups["late"], "mu")["embed"]
    assert not late.any() and gradtx.get(groups["late"], "count") == 0
    assert gradtx.get(groups["late"], "step") == 3  # the schedule of the learning rate goes on
    fresh = ("count", "mu/embed", "nu/embed")
    assert report.started == tuple(f"inner_states/late/inner_state/0/{name}" for name in fresh)
    assert "3 arrays start as `init` makes them:\n  inner_states/late" in repr(report)
    # The first step of the parameter is that of Adam at step 1: the size of the learning rate.
    updates, _ = THAWED.update(GRADIENT, new, PARAMS)
    decayed = 1e-4 * PARAMS["embed"]
    want = -(np.sign(GRADIENT["embed"]) + decayed) * falling(3)
    # Eight roundings of float32, and eps = 1e-8 over gradients above 1e-2.
    np.testing.assert_allclose(updates["embed"], want, rtol=8 * 2**-24 + 1e-6)
    # Freezing again drops what the group had.
    back, report = reported(new, FROZEN)
    same(back, state)
    assert len(report.left) >= 3


def test_no_buffer_stands_in_two_places():
    new = migrate(after(FROZEN), THAWED, PARAMS)
    step = jax.jit(lambda state: THAWED.update(GRADIENT, state, PARAMS), donate_argnums=0)
    step(new)


@pytest.mark.parametrize(
    ("old", "new", "carried"),
    [
        # Heavy-ball's sum of gradients is called `trace`, and Adam's average `mu`.
        (sgd(0.1, momentum=0.9), adamw(0.1), {"step", "last_learning_rate"}),
        # An average alone is not half of Adam's state.
        (
            chain(gradtx.scale_by_momentum(), gradtx.scale_by_learning_rate(0.1)),
            adam(0.1),
            {"step", "last_learning_rate"},
        ),
        (gradtx.rmsprop(0.1), adam(0.1), {"step", "last_learning_rate"}),
    ],
    ids=zoo.named,
)
def test_only_whole_nodes_of_equal_names_are_carried_over(old, new, carried):
    state, report = reported(after(old), new)
    assert {name.split("/")[-1] for name, _ in report.carried} == carried
    same(gradtx.get(state, "mu"), jax.tree.map(jnp.zeros_like, PARAMS))
    assert gradtx.get(state, "count") == 0


def test_a_leaf_of_another_shape_starts_anew():
    wider = PARAMS | {"embed": jnp.ones((5, 2)), "extra": jnp.ones(2)}
    state, report = reported(after(adam(0.1)), adam(0.1), wider)
    assert report.started == ("0/mu/embed", "0/mu/extra", "0/nu/embed", "0/nu/extra")
    assert report.left == ("0/mu/embed", "0/nu/embed")
    same(state[0].mu["layers"], after(adam(0.1))[0].mu["layers"])


def test_labels_decide_between_nodes_of_the_same_names():
    rule = by_path({"embed": "a"}, "b")
    old = partition({"a": adam(0.1), "b": adam(0.2)}, rule)
    new = partition({"c": freeze(), "b": adam(0.2), "a": adam(0.1)}, rule)
    state = after(old)
    state = gradtx.set(state, **{"a.count": 7, "b.count": 9})
    moved = migrate(state, new, PARAMS)
    assert gradtx.get(moved, "a.0.count") == 7 and gradtx.get(moved, "b.0.count") == 9


def test_a_name_of_a_parameter_may_be_that_of_a_field():
    params = {
        "mu": jnp.ones(2),
        "count": jnp.ones(3),
        "nu": {"mu": jnp.ones(2)},
        "a/b": jnp.ones(2),
    }
    tx, g = adam(0.1), jax.tree.map(lambda x: 2 * x, params)
    _, state = tx.update(g, tx.init(params), params)
    same(migrate(state, adamw(0.1), params)[0], state[0])
    x, tx = jnp.ones(2), adam(0.1)  # a tree that is one array
    _, state = tx.update(x, tx.init(x), x)
    same(migrate(state, adamw(0.1), x)[0], state[0])


def test_a_state_of_optax_and_abstract_arrays_are_taken():
    theirs = optax.adamw(0.1)
    state = theirs.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        _, state = theirs.update(GRADIENT, state, PARAMS)
    same(migrate(state, adamw(0.1), PARAMS)[0], state[0])
    shapes = jax.eval_shape(lambda p: migrate(adam(0.1).init(p), adamw(0.1), p), PARAMS)
    assert types(shapes) == types(adamw(0.1).init(PARAMS))


def test_a_state_without_anything_in_common_is_refused():
    with pytest.raises(ValueError, match="no array in common"):
        migrate(GRADIENT, adam(0.1), PARAMS)
    with pytest.raises(TypeError, match=r"migrate\(tx"):
        migrate(after(adam(0.1)), PARAMS, adam(0.1))  # pyright: ignore

"""Masks, labels and rules: which leaves a transformation works on."""

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import GRADIENT, PARAMS, SMALL, same, train, tree, updated

import gradtx
from gradtx import (
    adam,
    adamw,
    by_path,
    by_rank,
    decoupled_weight_decay,
    freeze,
    masked,
    partition,
    scale,
    sgd,
)


def test_masks_and_labels_may_be_callable_trees_and_bools_may_be_numbers():
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    params, mask = eqx.filter(layer, eqx.is_array), jax.tree.map(lambda x: x.ndim > 1, layer)
    g = jax.tree.map(jnp.zeros_like, params)
    for given in (mask, lambda params: jax.tree.map(lambda x: x.ndim > 1, params)):
        tx = adamw(0.1, mask=given)
        updates, _ = tx.update(g, tx.init(params), params)
        assert updates.weight.any() and not updates.bias.any()
    tree = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = adamw(0.1, mask={"a": 1, "b": 0})
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, tree), tx.init(tree), tree)
    assert updates["a"].any() and not updates["b"].any()


@pytest.mark.parametrize(
    "make",
    [
        lambda mask: masked(decoupled_weight_decay(1.0), mask),
        lambda mask: decoupled_weight_decay(1.0, mask=mask),
        lambda mask: sgd(-1.0, weight_decay=1.0, mask=mask),
        lambda mask: gradtx.muon(-1.0, weight_decay=1.0, mask=mask),
        lambda mask: gradtx.adadelta(-1.0, weight_decay=1.0, mask=mask),
        lambda mask: partition({True: decoupled_weight_decay(1.0), False: freeze()}, mask),
        lambda mask: gradtx.chain(decoupled_weight_decay(1.0), freeze(jax.tree.map(_not, mask))),
    ],
)
def test_every_place_for_a_mask_takes_modules_and_numbers(make):
    layer = eqx.filter(eqx.nn.Linear(2, 3, key=jax.random.key(0)), eqx.is_array)
    zero = jax.tree.map(jnp.zeros_like, layer)
    for kind in (bool, np.bool_, int):
        tx = make(jax.tree.map(lambda x, kind=kind: kind(x.ndim > 1), layer))
        updates, _ = tx.update(zero, tx.init(layer), layer)
        assert updates.weight.any() and not updates.bias.any()


def _not(x):
    return type(x)(not x)


MODEL = tree(shapes={"embed": SMALL, "layers": [SMALL, SMALL], "head": {"kernel": (2, 3)}})


MODEL_GRADIENT = tree(
    seed=1, shapes={"embed": SMALL, "layers": [SMALL, SMALL], "head": {"kernel": (2, 3)}}
)


RULES = {
    "rule of paths": by_path({"embed|head": "a", r"bias$": "a"}, otherwise="b"),
    "function of path and leaf": lambda path, leaf: (
        "b" if path.startswith("layers/") and leaf.ndim == 2 else "a"
    ),
    "tree": {
        "embed": {"kernel": "a", "bias": "a"},
        "layers": [{"kernel": "b", "bias": "a"}] * 2,
        "head": {"kernel": "a"},
    },
    "prefix of a tree": {"embed": "a", "layers": [{"kernel": "b", "bias": "a"}] * 2, "head": "a"},
    "function to a tree": lambda params: {
        "embed": "a",
        "layers": [{"kernel": "b", "bias": "a"} for _ in params["layers"]],
        "head": "a",
    },
    "function to a rule": lambda params: by_path({"layers/./kernel": "b"}, otherwise="a"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_partition_gives_each_leaf_to_what_its_label_names(rule):
    tx = partition({"a": adam(0.1), "b": sgd(0.1, momentum=0.9), "unused": adam(9.0)}, rule)
    state = tx.init(MODEL)
    updates, new = tx.update(MODEL_GRADIENT, state, MODEL)
    everything = {
        "a": updated(adam(0.1), MODEL_GRADIENT, MODEL),
        "b": updated(sgd(0.1, 0.9), MODEL_GRADIENT, MODEL),
    }
    same(updates["embed"], everything["a"]["embed"])
    same(updates["head"], everything["a"]["head"])
    for layer, a, b in zip(
        updates["layers"], everything["a"]["layers"], everything["b"]["layers"], strict=True
    ):
        same(layer, {"kernel": b["kernel"], "bias": a["bias"]})
    # Leaves that a group does not own cost it nothing.
    for group, leaves in (("a", 5), ("b", 2), ("unused", 0)):
        sizes = [x for x in jax.tree.leaves(new.inner_states[group]) if x.ndim]
        assert len(sizes) == leaves * (1 if group == "b" else 2)
    assert zoo.types(new) == zoo.types(state)
    assert len(gradtx.routing(tx, MODEL)) == 7 if hasattr(gradtx, "routing") else True


def test_partition_names_the_leaf_whose_label_is_unknown():
    with pytest.raises(ValueError, match=r"label 'c' of `by_path.*\['a'\]"):
        partition({"a": adam(0.1)}, by_path({"layers/1": "c"}, otherwise="a"))
    tx = partition({"a": adam(0.1)}, lambda path, leaf: "c" if "layers/1" in path else "a")
    with pytest.raises(ValueError, match=r"layers/1/bias.*\(3,\).*'c'.*'a'"):
        tx.init(MODEL)
    with pytest.raises(ValueError, match="labels does not fit"):
        partition({"a": adam(0.1)}, {"embed": "a"}).init(MODEL)
    with pytest.raises(TypeError, match="transforms"):
        partition({"a": 0.1}, "a")


def test_labels_are_decided_from_parameters_also_where_a_gradient_is_missing():
    tx = partition({"a": adam(0.1), "b": sgd(0.1)}, by_rank_label)
    g = MODEL_GRADIENT | {"embed": {"kernel": None, "bias": None}}
    updates, _ = tx.update(g, tx.init(MODEL), MODEL)
    same(updates["embed"], jax.tree.map(lambda p: -0.0 * p, MODEL["embed"]))


def by_rank_label(path, leaf):
    return "a" if leaf.ndim == 2 else "b"


MASKS = {
    "rule": by_rank(2),
    "function of path and leaf": lambda path, leaf: "kernel" in path,
    "tree": {"kernel": True, "bias": False},
    "function to a tree": lambda params: jax.tree.map(lambda p: p.ndim == 2, params),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_come_in_every_form(mask):
    inside = updated(masked(sgd(0.1), mask))
    same(inside, {"kernel": updated(sgd(0.1))["kernel"], "bias": GRADIENT["bias"]})
    frozen = updated(freeze(mask))
    same(frozen["bias"], GRADIENT["bias"])
    still = np.asarray(frozen["kernel"])
    assert np.all((still == 0) & np.signbit(still))
    decayed = updated(decoupled_weight_decay(0.5, mask=mask))
    same(decayed["bias"], GRADIENT["bias"])
    same(decayed["kernel"], GRADIENT["kernel"] + 0.5 * PARAMS["kernel"])


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("recipe", [gradtx.adamw, gradtx.muon, gradtx.sgd])
def test_recipes_take_masks_in_every_form(recipe, mask):
    rule = updated(recipe(0.1, weight_decay=0.5, mask=by_rank(2)))
    same(updated(recipe(0.1, weight_decay=0.5, mask=mask)), rule)
    as_list = recipe(0.1, weight_decay=0.5, mask=[False, True])  # the parameters' order
    params, gradient = jax.tree.leaves(PARAMS), jax.tree.leaves(GRADIENT)
    same(as_list.update(gradient, as_list.init(params), params)[0], jax.tree.leaves(rule))


def test_a_recipe_may_have_a_mask_of_its_own_meaning():
    class padded(gradtx.Recipe):
        mask: tuple[int, ...] = (0, 1)

        def expand(self):
            return scale(float(len(self.mask)))

    assert padded().mask == (0, 1)
    mask = {"kernel": np.True_, "bias": np.False_}
    assert gradtx.parse(repr(adamw(0.1, mask=mask))) == adamw(0.1, mask=mask)


def test_a_mask_of_strings_is_refused():
    with pytest.raises(TypeError, match=r"`mask` must be .*'kernel' is none of these"):
        masked(sgd(0.1), "kernel")
    for mask in (by_path({"kernel": "decay"}, otherwise="no"), gradtx.hidden_matrices()):
        with pytest.raises(TypeError, match="True or False for every leaf"):
            masked(sgd(0.1), mask)
    with pytest.raises(TypeError, match=r"mask=...\).*True or False"):
        updated(masked(sgd(0.1), lambda path, leaf: "decay"))


def test_an_argument_that_is_not_a_mapping_is_refused_by_name():
    with pytest.raises(TypeError, match=r"by_path\(patterns"):
        by_path(["kernel"])
    for bad in (["a"], {"a": sgd(0.1), None: sgd(0.1)}):
        with pytest.raises(TypeError, match=r"partition\(transforms"):
            partition(bad, by_rank(2))


def test_masks_and_rules_are_part_of_the_value():
    for mask in (by_rank(2), {"kernel": True, "bias": False}):
        a, b = masked(adam(0.1), mask), masked(adam(0.1), copy.deepcopy(mask))
        assert a == b and hash(a) == hash(b) and zoo.evaluate(repr(a)) == a
        assert a != masked(adam(0.1), by_rank(1))


def test_masked_keeps_no_state_for_other_leaves():
    state = masked(adam(0.1), by_rank(2)).init(PARAMS)
    assert [x.shape for x in jax.tree.leaves(state) if x.ndim] == [(2, 3), (2, 3)]


def test_freezing_a_part_leaves_it_bitwise_untouched():
    tx = partition({True: adamw(0.1, weight_decay=0.1), False: freeze()}, by_rank(2))
    params = {"kernel": PARAMS["kernel"], "bias": jnp.asarray([-0.0, np.nan, 2e-38])}
    new, _ = train(tx, params, [GRADIENT] * 2)
    assert new["bias"].tobytes() == params["bias"].tobytes()
    assert np.all(new["kernel"] != params["kernel"])

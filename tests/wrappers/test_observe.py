"""`observe` taps every stage, and is otherwise the optimizer that it observes."""

import jax
import numpy as np
import pytest
import zoo
from zoo import GRADIENT, PARAMS, exactly, same, tree

import gradtx
from gradtx import (
    adamw,
    by_rank,
    chain,
    clip,
    clip_by_global_norm,
    muon,
    named_chain,
    observe,
    partition,
    readings,
    scale,
    sgd,
    tap,
)


def names(tx, params=PARAMS):
    """The names of the readings of the default measure, without the name of the measure."""
    found = readings(jax.eval_shape(tx.init, params))
    return [x.removesuffix("/global_norm") for x in found if x.endswith("/global_norm")]


def test_names_are_those_of_the_stages_with_labels_before_them():
    adam = ["scale_by_adam", "decoupled_weight_decay", "scale_by_learning_rate"]
    ends = lambda inside: ["gradients", *inside, "updates"]
    assert names(observe(adamw(0.1))) == ends(adam)
    assert names(observe(chain(clip(1.0), adamw(0.1)))) == ends(["clip", *adam])
    twice = observe(chain(scale(1.0), chain(scale(2.0), tap("own"), chain())))
    assert names(twice)[:3] == ["gradients", "scale", "scale_2"]
    named = observe(named_chain(("first", clip(1.0)), ("rate", sgd(0.1))))
    assert names(named) == ends(["first", "scale_by_learning_rate"])
    parts = partition({True: adamw(0.1), False: scale(0.1)}, by_rank(2))
    assert names(observe(parts)) == ends([f"True/{x}" for x in adam])
    assert "muon/orthogonalize_newton_schulz" in names(observe(muon(0.1)))
    assert names(observe(scale(0.1) + clip(0.2))) == ends([])


# Recipes and chains have stages; one row of each recipe has them all.
OBSERVED = [
    row
    for row in zoo.REPRESENTATIVES
    if isinstance(row.make(), gradtx.Recipe | chain | partition) and "tap(" not in row.code
]


@pytest.mark.parametrize("row", OBSERVED, ids=str)
def test_the_updates_and_the_state_are_the_same_bit_for_bit(row):
    tx = row.make()
    seen = observe(tx)
    mapped = [jax.jit(x.update) for x in (tx, seen)]
    states = [x.init(PARAMS) for x in (tx, seen)]
    for seed in (1, 2):
        g = tree(seed=seed, shapes=zoo.SMALL)
        (want, plain), (got, state) = (f(g, s, PARAMS) for f, s in zip(mapped, states, strict=True))
        exactly(got, want)
        same(state.inner_state, plain)
        states = [plain, state]


def test_get_set_and_replace_work_through_it():
    tx = observe(chain(clip_by_global_norm(0.5), adamw(0.1)))
    state = tx.init(PARAMS)
    assert gradtx.get(state, "mu").keys() == PARAMS.keys()
    state = gradtx.set(state, mu=PARAMS)
    same(state.inner_state[1][0].mu, PARAMS)
    _, state = gradtx.replace(tx, learning_rate=0.2).update(GRADIENT, state, PARAMS)
    assert gradtx.get(state, "last_learning_rate") == np.float32(0.2)
    np.testing.assert_allclose(gradtx.get(state, "clip_by_global_norm/global_norm"), 0.5, rtol=1e-6)


def test_it_draws_itself_and_names_every_tap():
    tx = observe(chain(clip_by_global_norm(0.5), adamw(0.1)))
    text = str(gradtx.summarize(tx, PARAMS))
    assert text.startswith("observe") and "clip_by_global_norm" in text
    assert observe(tx).init(PARAMS).inner_state.taps  # one inside another works, too

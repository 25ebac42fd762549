"""Editing values and states: `replace`, `stack`, `axes`, `get` and `set`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import GRADIENT, PARAMS, fading, same, train, updated

import gradtx
from gradtx import (
    adam,
    adamw,
    axes,
    by_path,
    by_rank,
    chain,
    clip,
    partition,
    replace,
    scale,
    scale_by_momentum,
    sgd,
    stack,
)


def test_replace_changes_every_match_and_a_path_narrows():
    tx = chain(clip(1.0), partition({"a": adam(0.1), "b": sgd(0.1)}, by_rank(2)))
    assert replace(tx, learning_rate=0.5) == chain(
        clip(1.0), partition({"a": adam(0.5), "b": sgd(0.5)}, by_rank(2))
    )
    for path in ("a.learning_rate", "adam.learning_rate", "transforms.a.learning_rate"):
        narrowed = replace(tx, **{path: 0.5})
        assert narrowed == chain(clip(1.0), partition({"a": adam(0.5), "b": sgd(0.1)}, by_rank(2)))
    assert replace(tx, max_delta=2.0, b1=0.5).links[0] == clip(2.0)
    assert replace(adam(0.1), learning_rate=fading) == adam(fading)


def test_a_field_of_the_value_itself_hides_those_inside_it():
    tx = gradtx.muon(0.02, weight_decay=0.1, auxiliary=gradtx.adamw(3e-4))
    for path in ("learning_rate", "muon.learning_rate"):
        for outer in (lambda x: x, lambda x: chain(clip(1.0), x)):
            slower = outer(gradtx.muon(0.01, weight_decay=0.1, auxiliary=gradtx.adamw(3e-4)))
            assert replace(outer(tx), **{path: 0.01}) == slower
    for path in ("auxiliary.learning_rate", "adamw.learning_rate"):
        assert replace(tx, **{path: 0.5}) == dataclasses.replace(tx, auxiliary=gradtx.adamw(0.5))
    assert replace(tx, b2=0.5).auxiliary == gradtx.adamw(3e-4, b2=0.5)  # `muon` has no `b2`


def test_replace_says_what_there_is_when_nothing_matches():
    with pytest.raises(ValueError, match=r"no field `lr`.*learning_rate"):
        replace(adam(0.1), lr=0.5)
    with pytest.raises(ValueError, match=r"b\.learning_rate"):
        replace(chain(adam(0.1)), **{"b.learning_rate": 0.5})


def test_dataclasses_replace_works_for_compositions():
    tx = chain(clip(1.0), adam(0.1))
    assert dataclasses.replace(tx, links=(sgd(0.1),)) == chain(sgd(0.1))
    assert dataclasses.replace(tx.links[1], b1=0.5) == adam(0.1, b1=0.5)
    assert dataclasses.replace(clip(1.0) / 2.0, combine="multiply") == clip(1.0) * 2.0


def test_stack_makes_arrays_of_the_numbers_that_differ():
    batch = stack([adam(0.1, b1=0.5), adam(0.2, b1=0.5), adam(0.3, b1=0.5)])
    np.testing.assert_allclose(batch.learning_rate, [0.1, 0.2, 0.3])
    assert batch.b1 == 0.5 and batch.b2 == 0.999
    where = axes(batch)
    assert where.learning_rate == 0 and where.b1 is None
    assert axes(batch, learning_rate=0).learning_rate == 0
    with pytest.raises(ValueError, match="differ in numbers only"):
        stack([adam(0.1), sgd(0.1)])
    with pytest.raises(ValueError):
        stack([])
    with pytest.raises(ValueError, match=r"`lr`.*learning_rate"):
        axes(batch, lr=0)


def test_axes_names_what_a_sweep_is_over():
    def final(tx, params):
        return train(tx, params, [GRADIENT])[0]

    tx = replace(chain(clip(1.0), adam(0.1)), learning_rate=jnp.asarray([0.1, 0.2]))
    got = jax.vmap(final, in_axes=(axes(tx, learning_rate=0), None))(tx, PARAMS)
    for i, rate in enumerate((0.1, 0.2)):
        want = final(chain(clip(1.0), adam(jnp.float32(rate))), PARAMS)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6), got, want)


def test_get_finds_by_name_and_a_path_narrows():
    tx = chain(scale_by_momentum(), partition({"a": adam(fading), "b": sgd(0.1)}, by_path({}, "a")))
    _, state = train(tx, PARAMS, [GRADIENT] * 2)
    with pytest.raises(KeyError, match=r"several.*0\.mu.*a"):
        gradtx.get(state, "mu")
    same(gradtx.get(state, "0.mu"), state[0].mu)
    same(gradtx.get(gradtx.set(state, **{"0.mu": GRADIENT}), "a.mu"), gradtx.get(state, "a.mu"))
    same(gradtx.get(gradtx.set(state, **{"0.mu": GRADIENT}), "0.mu"), GRADIENT)
    scheduled = scale(fading).init(PARAMS)._replace(inner={"count": 3})
    assert int(gradtx.get(scheduled, "count")) == 0
    assert float(gradtx.get(state, "a.last_learning_rate")) == 0.25
    with pytest.raises(KeyError, match=r"no entry named `lr`.*last_learning_rate"):
        gradtx.get(state, "lr")


def test_set_writes_every_match_in_its_old_type():
    tx = chain(scale(fading), adam(fading), scale(fading))
    _, state = train(tx, PARAMS, [GRADIENT] * 2)
    new = gradtx.set(state, count=7, step=7, mu=GRADIENT)
    assert zoo.types(new) == zoo.types(state)
    counts = [x for x in jax.tree.leaves(new) if x.dtype == jnp.int32]
    assert len(counts) == 4 and all(int(x) == 7 for x in counts)
    same(gradtx.get(new, "mu"), GRADIENT)
    with pytest.raises(KeyError, match="no entry named"):
        gradtx.set(state, velocity=1)


def test_equal_transformations_stack_to_a_batch_too():
    for batch in (gradtx.stack([sgd(0.1), sgd(0.1)]), gradtx.stack([sgd(0.1)])):
        axes = gradtx.axes(batch)
        out = jax.vmap(lambda tx: updated(tx), in_axes=(axes,))(batch)
        assert out["bias"].shape[0] == batch.learning_rate.shape[0]


def test_axes_map_arrays_alone():
    tx = gradtx.muon(jnp.array([0.1, 0.2]), auxiliary=adamw(1e-3))
    axes = gradtx.axes(tx, learning_rate=0)
    assert jax.vmap(lambda tx: updated(tx), in_axes=(axes,))(tx)["kernel"].shape == (2, 2, 3)

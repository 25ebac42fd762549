"""The laws of a value: it prints, compares, copies, is replaced, and is a transformation of Optax."""

import copy
import dataclasses
import functools
import pickle

import jax
import optax
import pytest
import zoo
from public import PUBLIC
from zoo import SMALL, exactly, nudged, tree

import gradtx


def test_every_public_transformation_is_in_the_zoo():
    def names(value):
        inside = [type(value)] if isinstance(value, gradtx.Transform) else []
        for field in dataclasses.fields(value) if isinstance(value, gradtx.Value) else ():
            inside += names(getattr(value, field.name))
        for x in (
            value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
        ):
            inside += names(x)
        return inside

    # `qk_clip` asks for logits that belong to a model and not to a tree of parameters, and
    # `mup` for the shapes of another model. `reduce_on_plateau` compares losses, so that it has no
    # derivative, and its counters start again.
    abstract = {
        gradtx.Transform,
        gradtx.Elementwise,
        gradtx.Matrixwise,
        gradtx.Wrapper,
        gradtx.Moment,
    }
    abstract |= {gradtx.Recipe, gradtx.foreign}
    abstract |= {gradtx.qk_clip, gradtx.mup, gradtx.reduce_on_plateau}
    kinds = (x for x in PUBLIC.values() if isinstance(x, type))
    public = {x for x in kinds if issubclass(x, gradtx.Transform)} - abstract
    shown = {kind for row in zoo.ROWS for kind in names(row.make())}
    assert sorted(x.__name__ for x in public - shown) == []


@pytest.mark.every
def test_prints_as_the_code_that_makes_it(row):
    tx = row.make()
    assert zoo.evaluate(repr(tx)) == tx
    assert repr(zoo.evaluate(repr(tx))) == repr(tx)


@functools.cache
def everything():
    """All rows with the values that they make."""
    return [(row, row.make()) for row in zoo.ROWS]


@pytest.mark.every
def test_equal_code_makes_equal_values_of_equal_hash(row):
    a, b = row.make(), row.make()
    assert a == b and (a != b) is False and hash(a) == hash(b)
    assert a != row.code and a != () and a != (a.init, a.update)
    if any(jax.tree.leaves(a)):
        assert a != nudged(a, 0.5)
    assert [r.code for r, b in everything() if b == a] == [row.code]


@pytest.mark.every
def test_copies_and_pickles(row):
    tx = row.make()
    for same in (copy.copy(tx), copy.deepcopy(tx), pickle.loads(pickle.dumps(tx))):
        assert type(same) is type(tx) and same == tx and hash(same) == hash(tx)


@pytest.mark.every
def test_flattens_and_unflattens_with_any_leaf(row):
    tx = row.make()
    leaves, structure = jax.tree.flatten(tx)
    assert structure.unflatten(leaves) == tx
    assert all(type(x) is float for x in leaves)
    odd = structure.unflatten([object()] * len(leaves))
    assert jax.tree.structure(odd) == structure
    assert jax.tree.map(lambda _: None, tx) is not None


@pytest.mark.every
def test_is_replaced_field_by_field(row):
    tx = row.make()
    assert dataclasses.replace(tx) == tx
    for field in dataclasses.fields(tx):
        assert dataclasses.replace(tx, **{field.name: getattr(tx, field.name)}) == tx
        value = getattr(tx, field.name)
        if isinstance(value, float):
            other = gradtx.replace(tx, **{field.name: 0.75 * value})
            assert getattr(other, field.name) == 0.75 * value and (other == tx) == (value == 0)


def test_is_an_optax_transformation(row):
    tx = row.make()
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    init, update = tx
    assert len(tx) == 2 and init == tx.init == tx[0] and update == tx.update == tx[1]
    params, g = tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    want = update(g, init(params), params, unknown_argument=3)
    exactly(want, update(g, init(params), params))
    chained = optax.chain(tx, optax.identity())
    updates, state = chained.update(g, chained.init(params), params, unknown_argument=3)
    exactly(want, (updates, state[0]))
    mine = gradtx.chain(tx, optax.identity())
    updates, state = mine.update(g, mine.init(params), params)
    exactly(want, (updates, state[0]))


def test_equal_rebuilt_value_never_retraces(row):
    traces = []

    def step(tx, params, g):
        traces.append(tx)
        return tx.update(g, tx.init(params), params)

    params, g = tree(shapes=SMALL), tree(seed=1, shapes=SMALL)
    static, data = (jax.jit(step, static_argnums=n) for n in (0, ()))
    for f in (static, data):
        traces.clear()
        for tx in (row.make(), row.make(), copy.deepcopy(row.make())):
            f.trace(tx, params, g)  # not called: what is looked at is there before it compiles
        assert len(traces) == 1

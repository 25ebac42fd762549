"""Fused projections of unequal size, and output heads without a name."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from rounding import roundings
from zoo import same, types

import gradtx
from gradtx import MatrixAxes, hidden_matrices, muon

KERNEL, STACKED, HEADS = (8, 12), (2, 8, 12), (8, 6, 2)
CUT = (8, 10)  # the queries, keys and values of four query heads and one key head


def cut(x):
    """The parts of a fused projection as leaves of their own; the last axis or two are the outputs."""
    flat = x.reshape(*x.shape[: -2 if x.shape == HEADS else -1], 12)
    return dict(zip("qkv", jnp.split(flat, CUT, axis=-1), strict=True))


@pytest.mark.parametrize("shape", [KERNEL, STACKED, HEADS], ids=str)
def test_parts_are_cut_along_the_outputs_and_joined_again(shape):
    x = jnp.arange(np.prod(shape), dtype="float32").reshape(shape)
    axes = hidden_matrices(blocks={"q": (4, 1, 1)}).axes("q/kernel" if shape == HEADS else "q", x)
    parts = axes.split_parts(x)
    same(parts, [y if y.ndim == 3 else y[None] for y in cut(x).values()])
    same(axes.join_parts(parts, shape), x)
    assert axes.sizes(shape) == [(8, 8), (8, 2), (8, 2)] and axes.size(shape) == (8, 8)
    assert axes.batch(shape) == sum(map(len, parts))
    along = axes.along_outputs([1.0, 2.0, 3.0], shape)
    want = cut(jnp.broadcast_to(along, shape))
    assert [np.unique(y).tolist() for y in want.values()] == [[1.0], [2.0], [3.0]]
    with pytest.raises(ValueError, match="split_parts"):
        axes.split(x)


def test_outputs_before_inputs_are_cut_too():
    x = jnp.arange(96.0).reshape(12, 8)
    axes = MatrixAxes((1,), (0,), (4, 1, 1))
    same(axes.split_parts(x), [y.T[None] for y in jnp.split(x, CUT)])
    same(axes.join_parts(axes.split_parts(x), x.shape), x)
    assert axes.along_outputs([1.0, 2.0, 3.0], (12, 8)).shape == (12, 1)


@pytest.mark.parametrize("recipe", [muon, gradtx.normuon, gradtx.adamuon, gradtx.scion])
def test_unequal_parts_are_updated_as_leaves_of_their_own(recipe):
    def cut_all(tree):
        return {"qkv": cut(tree["qkv"]), "stacked": cut(tree["stacked"]), "o": tree["o"]}

    fused = zoo.tree(shapes={"qkv": KERNEL, "stacked": STACKED, "o": (8, 8)})
    apart, blocks = cut_all(fused), {"qkv|stacked": (4, 1, 1)}
    tx, alone = recipe(0.1, axes=hidden_matrices(blocks=blocks)), recipe(0.1)
    state, other = tx.init(fused), alone.init(apart)
    step = jax.jit(lambda tx, g, state, params: tx.update(g, state, params))
    for _ in range(2):
        updates, new = step(tx, fused, state, fused)
        want, other = step(alone, apart, other, apart)
        # The parts are the same matrices. Behind them, XLA may join factors in another order.
        chex.assert_trees_all_close(cut_all(updates), want, rtol=roundings(6, "float32"), atol=0)
        assert types(new) == types(state)
        state = new


def test_equal_ratios_are_equal_parts():
    g = {"qkv": zoo.tree(shapes=KERNEL), "o": jnp.eye(8)}
    one, other = (muon(0.1, axes=hidden_matrices(blocks={"qkv": n})) for n in (3, (2, 2, 2)))
    same(*(tx.update(g, tx.init(g), g)[0] for tx in (one, other)))


def test_outputs_that_cannot_be_divided_are_refused_with_the_path():
    for blocks in ((4, 3), 5):
        tx = muon(0.1, axes=hidden_matrices(blocks={"qkv": blocks}))
        with pytest.raises(ValueError, match=r"`qkv`.*12 outputs, which cannot be divided"):
            tx.init({"qkv": jnp.ones(KERNEL)})
    rows = gradtx.routing(
        muon(0.1, axes=hidden_matrices(blocks={"qkv": (4, 1, 1)})), {"qkv": jnp.ones(STACKED)}
    )
    assert rows[0].why == "matrix 8 -> 8 + 2 + 2, 2 of them"


def mlp(*sizes, name="Dense_{}/kernel", transposed=False):
    shapes = {name.format(i): (a, b) for i, (a, b) in enumerate(itertools.pairwise(sizes))}
    return zoo.full(1.0, shapes={k: s[::-1] if transposed else s for k, s in shapes.items()})


BLOCK = {"q": (8, 8), "k": (8, 2), "o": (8, 8), "up": (8, 32), "down": (32, 8)}
LAYERS = [{k: {"kernel": s} for k, s in BLOCK.items()}] * 2


@pytest.mark.parametrize(
    ("params", "heads"),
    [
        (mlp(784, 512, 512, 10), {"Dense_2"}),
        (mlp(784, 512, 10, name="layers/{}/weight", transposed=True), {"layers/1"}),
        (mlp(784, 512, 10, name="linear_{}/w"), {"linear_1"}),
        (zoo.full(1.0, shapes={"embed": (99, 8), "layers": LAYERS, "out": (8, 99)}), {"out"}),
        (zoo.full(1.0, shapes={"embed": (99, 8), "layers": LAYERS, "lm_head": (8, 99)}), set()),
        (zoo.full(1.0, shapes={"embed": (99, 8), "layers": LAYERS}), set()),
        (mlp(4, 8), set()),
        (mlp(4, 4, 4), set()),
    ],
)
def test_routing_names_the_head_that_has_no_name_and_how_to_exclude_it(params, heads):
    routes = gradtx.routing(muon(0.1), params)
    assert {note.split("exclude='")[1].split("'")[0] for note in routes.notes} == heads
    for note in routes.notes:
        assert note in repr(routes) and "may be the output head" in routes._repr_html_()
    for name in heads:
        rule = hidden_matrices(exclude=name)
        after = gradtx.routing(muon(0.1, axes=rule), params)
        changed = {a.path for a, b in zip(after, routes, strict=True) if a.label != b.label}
        assert len(changed) == 1 and not after.notes and gradtx.parse(repr(rule)) == rule


def test_the_groups_of_scion_have_their_own_names():
    params = {"w": jnp.ones((4, 8)), "b": jnp.ones(8)}
    assert {r.path: r.label for r in gradtx.routing(gradtx.scion(0.1), params)} == {
        "b": "sign",
        "w": "muon",
    }
    own = hidden_matrices(others="rest")
    assert {r.label for r in gradtx.routing(gradtx.scion(0.1, axes=own), params)} == {
        "muon",
        "rest",
    }

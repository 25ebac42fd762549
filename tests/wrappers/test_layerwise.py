"""`layerwise`: which layer a leaf belongs to, and the factor of each layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from zoo import same

import gradtx
from gradtx import adamw, layerwise, sgd


def factors(tx, shapes):
    """The factor of every leaf, or of every slice of a stacked leaf, by paths."""
    params = zoo.full(1.0, shapes=shapes)
    updates, _ = tx.update(params, tx.init(params), params)
    rows = {}
    for path, x in jax.tree_util.tree_leaves_with_path(updates):
        x = -np.asarray(x).reshape(len(x), -1)
        assert (x == x[:, :1]).all()
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rows[name] = x[0, 0] if (x == x[0, 0]).all() else tuple(x[:, 0])
    return rows


LEAF = {"kernel": (2, 2)}


@pytest.mark.parametrize(
    ("shapes", "options", "expected"),
    [
        # Clark et al. 2020 and Bao et al. 2021: of N layers, the last has one power and the first has N.
        (
            {"wte": LEAF, "layers": [LEAF] * 3, "norm": LEAF, "head": LEAF},
            {},
            {"wte": 4, "layers/0": 3, "layers/1": 2, "layers/2": 1, "norm": 0, "head": 0},
        ),
        ({"block_1": LEAF, "block_2": LEAF, "fc": LEAF}, {}, {"block_1": 2, "block_2": 1, "fc": 0}),
        ({"h.0.attn": LEAF, "h.10.attn": LEAF}, {}, {"h.0.attn": 11, "h.10.attn": 1}),
        ({"h0_attn": LEAF, "h1_mlp": LEAF}, {}, {"h0_attn": 2, "h1_mlp": 1}),
        (
            {"params": {"encoderblock_0": {"LayerNorm_1": LEAF}, "encoderblock_1": {"Dense_0": LEAF}}},
            {},
            {"params/encoderblock_0/LayerNorm_1": 2, "params/encoderblock_1/Dense_0": 1},
        ),
        ({"layers": [{"mlp": [LEAF, LEAF]}, LEAF]}, {}, {
            "layers/0/mlp/0": 2, "layers/0/mlp/1": 2, "layers/1": 1}),
        ({"Dense_0": LEAF, "Dense_1": LEAF}, {"layers": r"dense_(\d+)"}, {"Dense_0": 2, "Dense_1": 1}),
        ({"stem": LEAF, "stages": [LEAF]}, {"embedding": "^stem"}, {"stem": 2, "stages/0": 1}),
        (
            {"embed": LEAF, "layers": {"kernel": (3, 2, 2)}, "head": LEAF},
            {"stacked": "layers"},
            {"embed": 4, "layers": (3, 2, 1), "head": 0},
        ),
        (
            {"layers": {"kernel": (3, 2, 2)}, "block_3": LEAF, "block_4": LEAF},
            {"stacked": "LAYERS"},
            {"layers": (3, 2, 1), "block_3": 3, "block_4": 2},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_factor_falls_by_one_power_per_layer(shapes, options, expected):
    got = factors(layerwise(sgd(1.0), 0.5, **options), shapes)
    power = lambda n: tuple(map(power, n)) if isinstance(n, tuple) else 0.5**n
    assert got == {f"{name}/kernel": power(n) for name, n in expected.items()}


def test_it_multiplies_the_rate_and_the_decoupled_decay_and_keeps_the_state():
    params = zoo.tree(shapes={"layers": [zoo.SMALL, zoo.SMALL]})
    inner = adamw(0.1, weight_decay=0.5)
    tx = layerwise(inner, 0.5)
    a, state = tx.update(params, tx.init(params), params)
    b, want = inner.update(params, inner.init(params), params)
    same(state, want)
    same(
        a["layers"],
        [
            jax.tree.map(lambda u, f=f: f * u, u)
            for u, f in zip(b["layers"], (0.25, 0.5), strict=True)
        ],
    )


def test_the_factor_is_a_hyperparameter():
    params = zoo.full(1.0, shapes={"embed": (2,), "layers": [(2,)], "stack": (2, 2)})
    txs = gradtx.stack([layerwise(sgd(1.0), x, stacked="stack") for x in (0.5, 0.25)])
    step = lambda tx: tx.update(params, tx.init(params))[0]
    got = jax.vmap(step, in_axes=(gradtx.axes(txs),))(txs)
    np.testing.assert_array_equal(got["embed"][:, 0], [-0.125, -0.015625])
    np.testing.assert_array_equal(got["stack"][:, :, 0], [[-0.25, -0.5], [-0.0625, -0.25]])
    slope = jax.grad(lambda tx: step(tx)["embed"][0])(layerwise(sgd(1.0), 0.5, stacked="stack"))
    assert slope.decay == -3 * 0.5**2


def test_what_has_no_layers_is_refused_with_a_remedy():
    params = {"a": {"kernel": jnp.ones(2)}, "b": {"kernel": jnp.ones(2)}}
    for tx, says in (
        (layerwise(sgd(1.0)), r"number of a layer in none.*`b/kernel`.*stacked='layers'"),
        (layerwise(sgd(1.0), stacked="kernle"), "'kernle'.*`a/kernel`"),
    ):
        with pytest.raises(ValueError, match=says):
            tx.init(params)
    for make, says in (
        (lambda: layerwise(sgd(1.0), 1.5), "decay"),
        (lambda: layerwise(sgd(1.0), lambda step: 0.5), "decay=.*cannot be a schedule"),
        (lambda: layerwise(sgd(1.0), layers=r"Dense_\d+"), "group"),
        (lambda: layerwise(sgd(1.0), stacked="("), "stacked"),
        (lambda: layerwise(sgd(1.0), embedding=3), "embedding"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            make()

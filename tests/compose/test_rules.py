"""Rules as values: what they say, how they combine, and that a pattern has to match something."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
import zoo
from flax import nnx
from zoo import same

import gradtx
from gradtx import adamw, by_fan_in, by_path, by_rank, by_shape, decay_mask, freeze, hidden_matrices
from gradtx._core.trees import paths

SHAPES = {
    "embed": {"table": (16, 4)},
    "layers": [{"kernel": (4, 4), "bias": (4,)} for _ in range(11)],
    "head": {"kernel": (4, 3), "bias": (3,)},
}
PARAMS = zoo.tree(shapes=SHAPES)


def chosen(rule, params=PARAMS):
    """The paths of the leaves for which a rule says True: those that it freezes."""
    ones, tx = jax.tree.map(jnp.ones_like, params), freeze(rule)
    updates, _ = tx.update(ones, tx.init(params), params)
    still = [not x.any() for x in jax.tree.leaves(updates)]
    return {path for path, own in zip(paths(params), still, strict=True) if own}


def weights(rule, params):
    """The paths for which a rule says True, asked leaf by leaf."""
    leaves = jax.tree.leaves(params)
    names = [
        n for n, x in zip(paths(params), _leaves_and_none(params), strict=True) if x is not None
    ]
    return {path for path, x in zip(names, leaves, strict=True) if rule(path, x)}


def _leaves_and_none(tree):
    return jax.tree.leaves(tree, is_leaf=lambda x: x is None)


HEAD = {"head/kernel", "head/bias"}
BIASES = {f"layers/{i}/bias" for i in range(11)} | {"head/bias"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (by_path("HEAD"), HEAD),  # letter case does not count, as in `hidden_matrices`
        (by_path("(?-i:HEAD)|bias"), BIASES),
        (by_path("layers/1", whole_names=True), {"layers/1/kernel", "layers/1/bias"}),
        (by_path("layers/1?0", whole_names=True) & by_rank(2), {"layers/0/kernel", "layers/10/kernel"}),
        (by_path("^head", whole_names=True), HEAD),
        (by_path("bias$", whole_names=True), BIASES),
        (by_path({"layers": False, "bias": True}, otherwise=False), {"head/bias"}),
        (by_shape((None, 3)), {"head/kernel"}),
        (by_shape((4,)) & by_path("layers/1"), {"layers/1/bias", "layers/10/bias"}),
        (by_fan_in(5), {"embed/table"}),
        (by_fan_in(0, 4) & by_path("head") | by_path("embed"), {"head/kernel", "embed/table"}),
        (~(by_rank(2) | by_path("layers")), {"head/bias"}),
        (by_rank(2) & (by_path("head") | by_path("embed")), {"head/kernel", "embed/table"}),
        (by_rank(2) & (lambda path, leaf: path.startswith("h")), {"head/kernel"}),
        ((lambda path, leaf: path.startswith("h")) & ~by_rank(2), {"head/bias"}),
        ((lambda path, leaf: False) | by_path("embed"), {"embed/table"}),
    ],
    ids=zoo.named,
)  # fmt: skip
def test_a_rule_chooses_leaves_and_rules_combine(rule, expected):
    assert chosen(rule) == expected


A, B, C = by_path("a"), by_rank(2), by_shape((None, 3))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (A & B & C, "by_path('a') & by_rank(2) & by_shape((None, 3))"),
        (A & (B & C), "by_path('a') & (by_rank(2) & by_shape((None, 3)))"),
        (A & B | ~C, "by_path('a') & by_rank(2) | ~by_shape((None, 3))"),
        (A & (B | ~C), "by_path('a') & (by_rank(2) | ~by_shape((None, 3)))"),
        (~(A | B) & ~~C, "~(by_path('a') | by_rank(2)) & ~~by_shape((None, 3))"),
        (by_path({"a": 1}, optional=("a",)), "by_path({'a': 1}, optional=('a',))"),
        (decay_mask(embeddings=False) & A, "decay_mask(embeddings=False) & by_path('a')"),
        (by_fan_in(3, at_most=9), "by_fan_in(3, at_most=9)"),
        (
            hidden_matrices(exclude="a", blocks={"qkv": [4, 1, 1]}, others="sign"),
            "hidden_matrices(blocks={'qkv': (4, 1, 1)}, exclude='a', others='sign')",
        ),
    ],
    ids=str,
)
def test_a_rule_prints_as_the_code_that_makes_it(rule, text):
    assert repr(rule) == text and zoo.evaluate(text) == rule and gradtx.parse(text) == rule
    assert hash(zoo.evaluate(text)) == hash(rule)
    tx = adamw(0.1, mask=rule) if rule.says_bools else gradtx.muon(0.1, axes=hidden_matrices())
    assert gradtx.parse(repr(tx)) == tx


def own_rule(path, leaf):
    return path.startswith("head")


def test_a_function_in_a_combination_prints_as_its_name_and_is_passed_to_parse():
    rule = by_rank(2) & own_rule | ~by_path("layers")
    assert repr(rule) == "by_rank(2) & own_rule | ~by_path('layers')"
    assert gradtx.parse(repr(rule), names={"own_rule": own_rule}) == rule


def test_the_order_of_patterns_is_part_of_the_value():
    assert by_path({"a": 1, "b": 2}) != by_path({"b": 2, "a": 1})
    assert by_path({"a": 1, "b": 2}) == by_path({"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: by_rank(2) & 3, "3 is neither"),
        (lambda: by_rank(2) | dict, "combines rules"),
        (lambda: by_rank(2) & (lambda params: params), "say True or False"),
        (lambda: by_rank(2) & by_path({"a": "x"}), "say True or False"),
        (lambda: ~hidden_matrices(), "say True or False"),
        (lambda: by_path("(", whole_names=True), "not a regular expression"),
        (lambda: by_path("a", otherwise="b"), "mapping"),
        (lambda: by_path({"a": 1}, optional=("b",)), "optional=.*'b'"),
        (lambda: by_rank("2"), "whole number"),
        (lambda: by_shape(3), r"by_shape\(shape"),
        (lambda: by_shape((2.5,)), r"by_shape\(shape"),
        (lambda: by_fan_in(-1), "at_least"),
        (lambda: by_fan_in(1, axes=by_rank(2)), "hidden_matrices"),
        (lambda: hidden_matrices(exclude="("), "exclude"),
        (lambda: hidden_matrices(blocks={"qkv": 0}), "blocks"),
        (lambda: hidden_matrices(blocks={"qkv": (2, 0)}), "blocks"),
        (lambda: hidden_matrices(blocks={"(": 2}), "blocks"),
        (lambda: gradtx.parse("by_rank(2) & 3"), "only between rules"),
        (lambda: gradtx.parse("~adam(0.1)"), "only before a rule"),
        (lambda: gradtx.parse("adam(0.1) | sgd(0.1)"), "only between rules"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_when_it_is_made(make, says):
    with pytest.raises((TypeError, ValueError), match=says):
        make()


@pytest.mark.parametrize(
    ("tx", "says"),
    [
        (freeze(by_path("layres/1")), "'layres/1'.*none of the 25 parameters.*`layers/1/bias`"),
        (freeze(by_rank(2) & ~by_path("emebd")), "'emebd'.*`embed/table`"),
        (adamw(0.1, mask=by_path({"bais": False}, otherwise=True)), "'bais'.*`head/bias`"),
        (gradtx.partition({1: adamw(0.1)}, by_path({"head|hede": 1, "hed$": 1}, 1)), "'hed.'.*`head/"),
        (gradtx.partition({1: adamw(0.1)}, lambda params: by_path({"hed": 1}, 1)), "'hed'.*`head/"),
        (gradtx.muon(0.1, axes=hidden_matrices(exclude="layers/12")), "hidden_matrices.*`layers/1"),
        (gradtx.muon(0.1, axes=hidden_matrices(blocks={"qkv": 3})), "'qkv' of `hidden_matrices`"),
        (gradtx.scale_by_path({"hed": 2.0}), "'hed' of `by_path`.*optional=True"),
    ],
    ids=str,
)  # fmt: skip
def test_a_pattern_that_matches_nothing_is_an_error_that_names_similar_paths(tx, says):
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(tx.init, PARAMS)


def test_a_pattern_may_be_marked_optional_and_the_whole_tree_decides():
    rule = {"hed": "a", "embed": "b"}
    for optional in (True, "hed", ("hed",)):
        freeze(by_path({"hed": True, "embed": True}, optional=optional)).init(PARAMS)
    with pytest.raises(ValueError, match="'hed'"):
        freeze(by_path({"hed": True, "embed": True}, optional="embed")).init(PARAMS)
    with pytest.raises(ValueError, match="'hed'"):
        gradtx.partition({"a": adamw(0.1)}, by_path(rule, "a")).init(PARAMS)
    # A group of a partition has no head, and the tree has one.
    mask = by_path({"head": False}, otherwise=True)
    gradtx.partition({"a": adamw(0.1, mask=mask), "b": freeze()}, by_path({"head": "b"}, "a")).init(
        PARAMS
    )
    # Optax leaves out the paths of other groups.
    labels = jax.tree.map(lambda x: "a", PARAMS) | {"head": {"kernel": "b", "bias": "b"}}
    optax.partition({"a": adamw(0.1, mask=mask), "b": optax.sgd(0.1)}, labels).init(PARAMS)
    # A tree without leaves, and the placeholder of `map_params`, have no names.
    tx = adamw(0.1, mask=mask)
    tx.init({})
    mapped = optax.tree.map_params(tx, lambda x: 2 * x, tx.init(PARAMS))
    assert jax.tree.structure(mapped) == jax.tree.structure(tx.init(PARAMS))


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.ln1 = nnx.LayerNorm(4, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs)
        self.norm_2, self.mlp = nnx.RMSNorm(4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.head = nnx.Embed(8, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)
        self.layers = nnx.vmap(lambda r: NnxBlock(r), in_axes=0, out_axes=0)(rngs.split(3))


class LinenModel(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(8, 4)(tokens)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention_1")(nn.LayerNorm()(x))
        return nn.Dense(3)(nn.GroupNorm(2)(nn.LayerNorm(name="ln1")(x)))


class EqxModel(eqx.Module):
    embed: eqx.nn.Embedding
    attn: eqx.nn.MultiheadAttention
    conv: eqx.nn.Conv1d
    layers: list

    def __init__(self):
        key = jax.random.key(0)
        self.embed = eqx.nn.Embedding(8, 4, key=key)
        self.attn = eqx.nn.MultiheadAttention(2, 4, use_output_bias=True, key=key)
        self.conv = eqx.nn.Conv1d(4, 4, 3, key=key)
        self.layers = [eqx.nn.LayerNorm(4), eqx.nn.Linear(4, 3, key=key)]


# What Haiku 0.0.16 made of `hk.Embed`, `hk.LayerNorm`, `hk.MultiHeadAttention`, `hk.nets.MLP` and a
# `hk.Conv2D` with `data_format="NCHW"`.
HAIKU = {
    "embed": {"embeddings": (8, 4)},
    "h0_ln_1": {"scale": (4,), "offset": (4,)},
    "h0_attn/query": {"w": (4, 4), "b": (4,)},
    "h0_mlp/~/linear_0": {"w": (4, 8), "b": (8,)},
    "conv2_d": {"w": (3, 3, 1, 4), "b": (4, 1, 1)},
    "layer_norm": {"scale": (4,), "offset": (4,)},
}


def nnx_params():
    return nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: NnxModel(nnx.Rngs(0))), nnx.Param))


MODELS = {
    "nnx": (nnx_params, {"head/kernel", "layers/mlp/kernel", "embed/embedding"} | {
        f"layers/attn/{name}/kernel" for name in ("query", "key", "value", "out")}),
    "linen": (
        lambda: jax.eval_shape(LinenModel().init, jax.random.key(0), jnp.zeros((1, 4), int)),
        {"params/Dense_0/kernel", "params/Embed_0/embedding"}
        | {f"params/attention_1/{name}/kernel" for name in ("query", "key", "value", "out")}),
    "equinox": (
        lambda: eqx.filter_eval_shape(lambda: eqx.filter(EqxModel(), eqx.is_inexact_array)),
        {"embed/weight", "conv/weight", "layers/1/weight"}
        | {f"attn/{name}_proj/weight" for name in ("query", "key", "value", "output")}),
    "haiku": (
        lambda: zoo.full(1.0, shapes=HAIKU),
        {"embed/embeddings", "h0_attn/query/w", "h0_mlp/~/linear_0/w", "conv2_d/w"}),
}  # fmt: skip


@pytest.mark.parametrize("make, expected", MODELS.values(), ids=MODELS)
def test_decay_mask_leaves_out_norms_and_biases_of_every_framework(make, expected):
    params = make()
    assert weights(decay_mask(), params) == expected
    embedding = {path for path in expected if path.lower().count("embed")}
    assert weights(decay_mask(embeddings=False), params) == expected - embedding
    decays = {r.path for r in gradtx.routing(adamw(0.1, mask=decay_mask()), params) if r.effects}
    assert decays == expected


def test_decay_mask_says_why():
    rule = decay_mask(embeddings=False)
    leaf = functools.partial(jax.ShapeDtypeStruct, dtype="float32")
    assert rule.why("a", leaf(())) == (False, "scalar") and rule.why("a", leaf((3,))) == (
        False,
        "vector",
    )
    assert rule.why("ln_final/weight", leaf((3, 4))) == (False, "norm, gain or bias, by its name")
    assert rule.why("wte", leaf((3, 4))) == (False, "embedding, by its name")
    assert rule.why("linear/weight", leaf((3, 4))) == (True, "weight")


def test_scale_by_path_multiplies_what_it_finds():
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    tx = gradtx.scale_by_path({"head": 3.0, "bias$": lambda step: 2.0 * (step == 0)})
    updates, state = tx.update(ones, tx.init(PARAMS), PARAMS)
    assert updates["head"]["bias"][0] == 6 and updates["head"]["kernel"][0, 0] == 3
    assert updates["layers"][0]["bias"][0] == 2 and updates["embed"]["table"][0, 0] == 1
    assert tx.update(ones, state, PARAMS)[0]["head"]["bias"][0] == 0
    # The order of the factors, which a pytree does not keep, does not count.
    a, b = (
        gradtx.scale_by_path({"head": 3.0, "bias": 2.0}),
        gradtx.scale_by_path({"bias": 2.0, "head": 3.0}),
    )
    same(
        jax.jit(lambda tx: tx.update(ones, tx.init(PARAMS))[0])(a),
        b.update(ones, b.init(PARAMS))[0],
    )
    assert a == b
    with pytest.raises(TypeError, match="mapping"):
        gradtx.scale_by_path([2.0])  # pyright: ignore

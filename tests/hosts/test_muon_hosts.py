"""A transformer and a convnet train with `gradtx.muon(rate)` unasked, in Flax NNX and in Equinox.

Nobody names a parameter: the rule reads paths and shapes. What it decides is written out here, leaf by
leaf, since a wrong decision trains too, only worse.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gradtx

STEPS, WIDTH, VOCABULARY, LENGTH = 12, 16, 11, 8


def cross_entropy(logits, targets):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1).mean()


def sequences():
    """Each character is the last one plus three: (inputs, targets)."""
    start = np.random.default_rng(0).integers(VOCABULARY, size=(16, 1))
    x = jnp.asarray((start + 3 * np.arange(LENGTH + 1)) % VOCABULARY, jnp.int32)
    return x[:, :-1], x[:, 1:]


def images():
    """Noise with one bright quarter out of four, which is the class: NHWC."""
    rng = np.random.default_rng(1)
    labels, x = rng.integers(4, size=32), rng.normal(size=(32, 8, 8, 1))
    for image, label in zip(x, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 2
    return jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.int32)


# Flax NNX.


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.RMSNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        mask = jnp.tri(x.shape[-2], dtype=bool)[None, None]
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))


class NnxTransformer(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.block = NnxBlock(rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.norm(self.block(self.embed(tokens))))


class NnxConvnet(nnx.Module):
    def __init__(self, rngs):
        self.conv1 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.bn1 = nnx.BatchNorm(8, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), strides=2, rngs=rngs)
        self.dense = nnx.Linear(8 * 16, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 4, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        x = jax.nn.relu(self.conv2(x)).reshape(len(x), -1)
        return self.head(jax.nn.relu(self.dense(x)))


NNX_TRANSFORMER = {
    "embed/embedding": ("adamw", "embedding, by its name"),
    "block/norm1/scale": ("adamw", "vector"),
    "block/norm1/bias": ("adamw", "vector"),
    "block/norm2/scale": ("adamw", "vector"),
    "block/attention/query/kernel": ("muon", "matrix 16 -> 16"),
    "block/attention/key/kernel": ("muon", "matrix 16 -> 16"),
    "block/attention/value/kernel": ("muon", "matrix 16 -> 16"),
    "block/attention/out/kernel": ("muon", "matrix 16 -> 16"),
    # (heads, size): two axes, and yet no matrix.
    "block/attention/query/bias": ("adamw", "norm, gain or bias, by its name"),
    "block/attention/key/bias": ("adamw", "norm, gain or bias, by its name"),
    "block/attention/value/bias": ("adamw", "norm, gain or bias, by its name"),
    "block/attention/out/bias": ("adamw", "vector"),
    "block/up/kernel": ("muon", "matrix 16 -> 64"),
    "block/up/bias": ("adamw", "vector"),
    "block/down/kernel": ("muon", "matrix 64 -> 16"),
    "block/down/bias": ("adamw", "vector"),
    "norm/scale": ("adamw", "vector"),
    "norm/bias": ("adamw", "vector"),
    "head/kernel": ("adamw", "head, by its name"),
    "head/bias": ("adamw", "vector"),
}
NNX_CONVNET = {
    "conv1/kernel": ("muon", "convolution 9 -> 8"),
    "conv1/bias": ("adamw", "vector"),
    "bn1/scale": ("adamw", "vector"),
    "bn1/bias": ("adamw", "vector"),
    "conv2/kernel": ("muon", "convolution 72 -> 8"),
    "conv2/bias": ("adamw", "vector"),
    "dense/kernel": ("muon", "matrix 128 -> 16"),
    "dense/bias": ("adamw", "vector"),
    "head/kernel": ("adamw", "head, by its name"),
    "head/bias": ("adamw", "vector"),
}


def train_nnx(module, tx, data):
    """The losses before every step, and the routing of the parameters."""
    x, targets = data
    model = module(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, gradients = nnx.value_and_grad(lambda m: cross_entropy(m(x), targets))(model)
        optimizer.update(model, gradients)
        return loss

    routes = gradtx.routing(tx, nnx.state(model, nnx.Param))
    return [float(step(model, optimizer)) for _ in range(STEPS)], routes


# Equinox.


class EqxBlock(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.RMSNorm
    mlp: eqx.nn.MLP

    def __init__(self, key):
        k1, k2 = jax.random.split(key)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(WIDTH), eqx.nn.RMSNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(2, WIDTH, use_output_bias=True, key=k1)
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, depth=1, key=k2)

    def __call__(self, x):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y, mask=jnp.tri(len(x), dtype=bool))
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))


class EqxTransformer(eqx.Module):
    embed: eqx.nn.Embedding
    block: EqxBlock
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3 = jax.random.split(key, 3)
        self.embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=k1)
        self.block, self.norm = EqxBlock(k2), eqx.nn.LayerNorm(WIDTH)
        self.head = eqx.nn.Linear(WIDTH, VOCABULARY, key=k3)

    def __call__(self, tokens):
        return jax.vmap(self.head)(jax.vmap(self.norm)(self.block(jax.vmap(self.embed)(tokens))))


class EqxConvnet(eqx.Module):
    conv1: eqx.nn.Conv2d
    norm1: eqx.nn.GroupNorm
    conv2: eqx.nn.Conv2d
    dense: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.conv1 = eqx.nn.Conv2d(1, 8, 3, padding=1, key=k1)
        self.norm1 = eqx.nn.GroupNorm(2, 8)
        self.conv2 = eqx.nn.Conv2d(8, 8, 3, stride=2, padding=1, key=k2)
        self.dense = eqx.nn.Linear(8 * 16, WIDTH, key=k3)
        self.head = eqx.nn.Linear(WIDTH, 4, key=k4)

    def __call__(self, image):
        x = jax.nn.relu(self.norm1(self.conv1(jnp.moveaxis(image, -1, 0))))
        x = jax.nn.relu(self.conv2(x)).reshape(-1)
        return self.head(jax.nn.relu(self.dense(x)))


EQX_TRANSFORMER = {
    "embed/weight": ("adamw", "embedding, by its name"),
    "block/norm1/weight": ("adamw", "vector"),
    "block/norm1/bias": ("adamw", "vector"),
    "block/attention/query_proj/weight": ("muon", "matrix 16 -> 16"),
    "block/attention/key_proj/weight": ("muon", "matrix 16 -> 16"),
    "block/attention/value_proj/weight": ("muon", "matrix 16 -> 16"),
    "block/attention/output_proj/weight": ("muon", "matrix 16 -> 16"),
    "block/attention/output_proj/bias": ("adamw", "vector"),
    "block/norm2/weight": ("adamw", "vector"),
    "block/norm2/bias": ("adamw", "vector"),
    # (64, 16) and (16, 64): Equinox has the outputs first.
    "block/mlp/layers/0/weight": ("muon", "matrix 16 -> 64"),
    "block/mlp/layers/0/bias": ("adamw", "vector"),
    "block/mlp/layers/1/weight": ("muon", "matrix 64 -> 16"),
    "block/mlp/layers/1/bias": ("adamw", "vector"),
    "norm/weight": ("adamw", "vector"),
    "norm/bias": ("adamw", "vector"),
    "head/weight": ("adamw", "head, by its name"),
    "head/bias": ("adamw", "vector"),
}
EQX_CONVNET = {
    "conv1/weight": ("muon", "convolution 9 -> 8"),
    # (8, 1, 1): three axes, and yet no matrix.
    "conv1/bias": ("adamw", "norm, gain or bias, by its name"),
    "norm1/weight": ("adamw", "vector"),
    "norm1/bias": ("adamw", "vector"),
    "conv2/weight": ("muon", "convolution 72 -> 8"),
    "conv2/bias": ("adamw", "norm, gain or bias, by its name"),
    "dense/weight": ("muon", "matrix 128 -> 16"),
    "dense/bias": ("adamw", "vector"),
    "head/weight": ("adamw", "head, by its name"),
    "head/bias": ("adamw", "vector"),
}


def train_equinox(module, tx, data):
    """The losses before every step, and the routing of the whole model, functions and all."""
    x, targets = data
    model = module(jax.random.key(0))
    params, fixed = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def step(params, state):
        def loss(p):
            return cross_entropy(jax.vmap(eqx.combine(p, fixed))(x), targets)

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        return gradtx.apply_updates(params, updates), state, value

    losses, state = [], tx.init(params)
    for _ in range(STEPS):
        params, state, value = step(params, state)
        losses.append(float(value))
    return losses, gradtx.routing(tx, model)


CASES = {
    "transformer in nnx": (train_nnx, NnxTransformer, sequences, NNX_TRANSFORMER),
    "convnet in nnx": (train_nnx, NnxConvnet, images, NNX_CONVNET),
    "transformer in equinox": (train_equinox, EqxTransformer, sequences, EQX_TRANSFORMER),
    "convnet in equinox": (train_equinox, EqxConvnet, images, EQX_CONVNET),
}


@pytest.mark.parametrize("case", CASES)
def test_trains_unasked_and_sends_hidden_matrices_to_muon_and_the_rest_to_adamw(case):
    train, module, data, expected = CASES[case]
    losses, routes = train(module, gradtx.muon(0.03), data())
    assert losses[-1] < 0.6 * losses[0], losses
    assert {r.path.removesuffix("/value"): (r.label, r.why) for r in routes} == expected


def test_lists_of_layers_name_no_convolution_and_windows_tell():
    k = jax.random.key(0)
    rule = gradtx.hidden_matrices()
    theirs = eqx.nn.Sequential([eqx.nn.Conv2d(3, 8, 3, key=k)])
    ours = nnx.state(nnx.Sequential(nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))), nnx.Param)
    for model in (theirs, ours):
        route = next(r for r in gradtx.routing(gradtx.muon(0.1), model) if len(r.shape) == 4)
        assert (route.label, route.why) == ("muon", "convolution 27 -> 8")
    stacked = jnp.ones((4, 4, 32, 64))
    assert rule.why("layers/w1", stacked)[1] == "matrix 32 -> 64, 16 of them"
    assert rule.why("layers/query/kernel", stacked)[1] == "matrix 4 -> 2048, 4 of them"


def test_the_second_matrix_of_a_low_rank_adapter_is_no_bias():
    state = nnx.state(nnx.LoRA(8, 2, 8, rngs=nnx.Rngs(0)), nnx.LoRAParam)
    assert {r.label for r in gradtx.routing(gradtx.muon(0.1), state)} == {"muon"}
    assert gradtx.hidden_matrices()("linear/b", jnp.ones((4, 8))) == "adamw"

"""Characters of Python's own reference, and a transformer of two blocks that predicts the next one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...char_lm import encode, python_reference
from ..problem import Problem, cross_entropy

WIDTH, HEADS, DEPTH, LENGTH, BATCH, HELD_OUT = 48, 4, 2, 48, 16, 64


def load() -> dict[str, np.ndarray]:
    """The characters to train on, and windows of later ones to choose by and to report."""
    train, rest, alphabet = encode(python_reference())
    starts = np.linspace(0, len(rest) - LENGTH - 1, 2 * HELD_OUT).astype(int)
    windows = rest[starts[:, None] + np.arange(LENGTH + 1)[None]]
    # Every second window, so that both scores come from all of the held-out text.
    return {
        "train": train,
        "choose": windows[::2],
        "report": windows[1::2],
        "alphabet": np.zeros(len(alphabet), np.float32),
    }


def draw(key: jax.Array, data: Any) -> tuple[Any, Any]:
    """Weights with variance 1 / inputs; the projections back into the residual stream begin at zero."""
    keys = iter(jax.random.split(key, 2 + 5 * DEPTH))
    letters = len(data["alphabet"])

    def kernel(inputs: int, outputs: int) -> jax.Array:
        return jax.random.normal(next(keys), (inputs, outputs)) / inputs**0.5

    def block() -> Any:
        return {
            "attention_norm": jnp.ones(WIDTH),
            "attention": {name: kernel(WIDTH, WIDTH) for name in ("query", "key", "value")},
            "attention_out": jnp.zeros((WIDTH, WIDTH)),
            "norm": jnp.ones(WIDTH),
            "up": kernel(WIDTH, 4 * WIDTH),
            "down": jnp.zeros((4 * WIDTH, WIDTH)),
        }

    params = {
        "embedding": 0.1 * jax.random.normal(next(keys), (letters, WIDTH)),
        "position_embedding": 0.1 * jax.random.normal(next(keys), (LENGTH, WIDTH)),
        "blocks": [block() for _ in range(DEPTH)],
        "norm": jnp.ones(WIDTH),
        "head": jnp.zeros((WIDTH, letters)),
    }
    return params, data


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + 1e-6) * scale[None, None]


def attended(x: jax.Array, block: Any) -> jax.Array:
    """Causal attention, `[batch, length, width]` to the same shape."""
    query, key, value = (
        (x @ block["attention"][name]).reshape(*x.shape[:2], HEADS, WIDTH // HEADS)
        for name in ("query", "key", "value")
    )
    out = jax.nn.dot_product_attention(query, key, value, is_causal=True)
    return out.reshape(x.shape) @ block["attention_out"]


def logits(params: Any, characters: jax.Array) -> jax.Array:
    x = params["embedding"][characters] + params["position_embedding"][None]
    for block in params["blocks"]:
        x = x + attended(normalized(x, block["attention_norm"]), block)
        x = x + jax.nn.gelu(normalized(x, block["norm"]) @ block["up"]) @ block["down"]
    return normalized(x, params["norm"]) @ params["head"]


def window_loss(params: Any, windows: jax.Array) -> jax.Array:
    return cross_entropy(logits(params, windows[:, :-1]), windows[:, 1:])


def loss(params: Any, data: Any, key: jax.Array) -> jax.Array:
    starts = jax.random.randint(key, (BATCH,), 0, len(data["train"]) - LENGTH)
    return window_loss(params, data["train"][starts[:, None] + jnp.arange(LENGTH + 1)[None]])


def scores(params: Any, data: Any) -> tuple[jax.Array, jax.Array]:
    return window_loss(params, data["choose"]), window_loss(params, data["report"])


TEXT = Problem(
    "text",
    "Characters of a text, transformer",
    "Attention, norms and embeddings: the kind of network that Muon and SOAP were made for.",
    "The reference of the Python language, which ships with Python.",
    300,
    "cross-entropy of 64 test windows, in nats per character",
    (2.6, 2.4),
    load,
    draw,
    loss,
    scores,
    costly=True,
)

"""Handwritten digits of 8 x 8 pixels and a multilayer perceptron with two hidden layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Problem
from .classifier import loss_and_scores

SIZES = (64, 64, 64, 10)
ROWS = {"report": slice(360), "choose": slice(360, 720), "train": slice(720, None)}


def load() -> dict[str, np.ndarray]:
    """All 1,797 images and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {"x": np.asarray(x, np.float32) / 16 - 0.3, "y": np.asarray(y, np.int32)}


def draw(key: jax.Array, data: Any) -> tuple[Any, Any]:
    """He's initialization, with a head of zeros, so that all classes are equally probable.

    Every seed has its own rows to train on, to choose by and to report. If all shared the rows to choose
    by, each optimizer would be tuned for what is special in them.
    """
    key_of_rows, *keys = jax.random.split(key, len(SIZES))
    layers = [
        {"kernel": (2 / n) ** 0.5 * jax.random.normal(k, (n, m)), "bias": jnp.zeros(m)}
        for k, n, m in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]
    layers[-1] = jax.tree.map(jnp.zeros_like, layers[-1])
    order = jax.random.permutation(key_of_rows, len(data["y"]))
    arrays = {kind: jnp.asarray(x) for kind, x in data.items()}
    world = {
        f"{name}_{kind}": x[order[rows]]
        for name, rows in ROWS.items()
        for kind, x in arrays.items()
    }
    return layers, world


def logits(layers: Any, x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ layers[-1]["kernel"] + layers[-1]["bias"][None]


DIGITS = Problem(
    "digits",
    "Handwritten digits, multilayer perceptron",
    "The usual small network, in batches of rows. Every seed has test rows of its own.",
    "E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits; scikit-learn.",
    300,
    "cross-entropy of 360 test rows, in nats",
    (0.3, 0.15),
    load,
    draw,
    *loss_and_scores(logits),
)

"""Handwritten digits of 8 x 8 pixels and a multilayer perceptron with two hidden layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Problem
from .classifier import loss_and_scores, split

SIZES = (64, 64, 64, 10)


def load() -> dict[str, np.ndarray]:
    """The rows to train on, to choose by and to report, from a split that is the same in every run."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
    return split(x / 16 - 0.3, y, held_out=360)


def draw(key: jax.Array, data: Any) -> tuple[Any, Any]:
    """He's initialization, with a head of zeros, so that all classes are equally probable."""
    keys = jax.random.split(key, len(SIZES) - 1)
    layers = [
        {"kernel": (2 / n) ** 0.5 * jax.random.normal(k, (n, m)), "bias": jnp.zeros(m)}
        for k, n, m in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]
    layers[-1] = jax.tree.map(jnp.zeros_like, layers[-1])
    return layers, data


def logits(layers: Any, x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ layers[-1]["kernel"] + layers[-1]["bias"][None]


DIGITS = Problem(
    "digits",
    "Handwritten digits, multilayer perceptron",
    "The usual small network: dense layers, biases, batches of rows.",
    "E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits; scikit-learn.",
    300,
    "cross-entropy of 360 test rows, in nats",
    (0.3, 0.15),
    load,
    draw,
    *loss_and_scores(logits),
)

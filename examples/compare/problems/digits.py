"""Handwritten digits of 8 x 8 pixels and a multilayer perceptron with two hidden layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..problem import Problem, cross_entropy

SIZES = (64, 64, 64, 10)
BATCH = 64


def load() -> dict[str, np.ndarray]:
    """The rows to train on, to choose by and to report, from a split that is the same in every run."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = np.asarray(x, np.float32), np.asarray(y, np.int32)
    return split(x / 16 - 0.3, y, held_out=360)


def split(x: np.ndarray, y: np.ndarray, held_out: int) -> dict[str, np.ndarray]:
    """Rows at random: `held_out` of them for each of the two scores, and the others to train on."""
    order = np.random.default_rng(0).permutation(len(x))
    report, choose, train = np.split(order, [held_out, 2 * held_out])
    rows = {"train": train, "choose": choose, "report": report}
    return {f"{name}_{kind}": a[r] for name, r in rows.items() for kind, a in (("x", x), ("y", y))}


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


def loss(layers: Any, data: Any, key: jax.Array) -> jax.Array:
    rows = jax.random.randint(key, (BATCH,), 0, len(data["train_x"]))
    return cross_entropy(logits(layers, data["train_x"][rows]), data["train_y"][rows])


def scores(layers: Any, data: Any) -> tuple[jax.Array, jax.Array]:
    choose, report = (
        cross_entropy(logits(layers, data[f"{rows}_x"]), data[f"{rows}_y"])
        for rows in ("choose", "report")
    )
    return choose, report


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
    loss,
    scores,
)

"""The network that every optimizer trains: a multilayer perceptron with two hidden layers."""

from typing import Any

import jax
import jax.numpy as jnp

HIDDEN_SIZES = (128, 128)


def initial_params(key: jax.Array, inputs: int, classes: int) -> Any:
    """Parameters by He's initialization (variance 2 / inputs).

    The head is zero, so that every run starts with equal probabilities for all classes.
    """
    sizes = (inputs, *HIDDEN_SIZES)
    keys = jax.random.split(key, len(HIDDEN_SIZES))
    hidden = [
        {"kernel": float(2 / n) ** 0.5 * jax.random.normal(k, (n, m)), "bias": jnp.zeros(m)}
        for k, n, m in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    head = {"kernel": jnp.zeros((HIDDEN_SIZES[-1], classes)), "bias": jnp.zeros(classes)}
    return {"hidden": hidden, "head": head}


def logits(params: Any, x: jax.Array) -> jax.Array:
    """The network's outputs `[rows, classes]` for inputs `[rows, inputs]`."""
    for layer in params["hidden"]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def cross_entropy(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean over the rows of minus the log-probability of the right class."""
    log_probabilities = jax.nn.log_softmax(logits(params, x))
    return -jnp.mean(jnp.take_along_axis(log_probabilities, y[:, None], axis=1))


def accuracy(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The share of rows whose largest output is that of the right class."""
    return jnp.mean(jnp.argmax(logits(params, x), axis=1) == y, dtype=jnp.float32)

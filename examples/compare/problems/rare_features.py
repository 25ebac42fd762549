"""Logistic regression whose features are mostly zero, the rarest ones in one row of 128."""

from typing import Any

import jax
import jax.numpy as jnp

from ..problem import Problem, no_data

FEATURES, BATCH, HELD_OUT = 64, 32, 2048


def draw(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Zero weights, and a world of true weights and of rows to choose by and to report."""
    k1, k2, k3 = jax.random.split(key, 3)
    true = 2 * jax.random.normal(k1, (FEATURES,))
    world = {"true": true, "choose": rows(k2, true, HELD_OUT), "report": rows(k3, true, HELD_OUT)}
    return {"weights": jnp.zeros(FEATURES), "bias": jnp.zeros(())}, world


def rows(key: jax.Array, true: jax.Array, count: int) -> Any:
    """Random rows and their labels. Feature j is 1 with probability 1 / (2 j)."""
    k1, k2 = jax.random.split(key)
    probability = 0.5 / jnp.arange(1.0, FEATURES + 1)
    x = jax.random.bernoulli(k1, probability[None], (count, FEATURES)).astype(jnp.float32)
    return x, jax.random.bernoulli(k2, jax.nn.sigmoid(x @ true)).astype(jnp.float32)


def mean_loss(logits: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.logaddexp(0.0, logits) - y * logits)


def loss(params: Any, world: Any, key: jax.Array) -> jax.Array:
    x, y = rows(key, world["true"], BATCH)
    return mean_loss(x @ params["weights"] + params["bias"], y)


def scores(params: Any, world: Any) -> tuple[jax.Array, jax.Array]:
    """How much more the loss is than that of the true weights, on the same rows."""
    choose, report = (
        mean_loss(x @ params["weights"] + params["bias"], y) - mean_loss(x @ world["true"], y)
        for x, y in (world["choose"], world["report"])
    )
    return choose, report


RARE_FEATURES = Problem(
    "rare_features",
    "Logistic regression with rare features",
    "Rare features get few gradients, for which AdaGrad was made. It is convex.",
    "J. Duchi, E. Hazan, Y. Singer (2011), Adaptive Subgradient Methods, section 1.3 (the idea).",
    400,
    "loss above that of the true weights, on 2,048 fresh rows, in nats",
    (0.05, 0.02),
    no_data,
    draw,
    loss,
    scores,
    vectors=True,
)

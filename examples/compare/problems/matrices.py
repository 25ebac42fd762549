"""Problems in one or two matrices whose minimum is known: ill-conditioned, noisy, and with a saddle."""

from typing import Any

import jax
import jax.numpy as jnp

from ..problem import Problem, exact, no_data, rotation

SIZE, RANK, BATCH = 32, 4, 16


def draw_ill_conditioned(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Singular values between 1 and 0.03 on both sides, in random bases."""
    keys = jax.random.split(key, 5)
    values = jnp.logspace(0, -1.5, SIZE)
    left, right = (
        (rotation(keys[i], SIZE) * values[None]) @ rotation(keys[i + 1], SIZE) for i in (0, 2)
    )
    target = jax.random.normal(keys[4], (SIZE, SIZE))
    world = {"left": left, "right": right, "target": target}
    return {"kernel": jnp.zeros((SIZE, SIZE))}, world


def ill_conditioned(params: Any, world: Any, key: Any = None) -> jax.Array:
    """Half of the mean square of A (W - W*) B."""
    error = world["left"] @ (params["kernel"] - world["target"]) @ world["right"]
    return 0.5 * jnp.sum(jnp.square(error)) / SIZE


def draw_noisy(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Inputs whose standard deviations lie between 1 and 0.1 in a random basis."""
    k1, k2 = jax.random.split(key)
    spread = jnp.logspace(0, -1, SIZE)[:, None] * rotation(k1, SIZE)
    target = jax.random.normal(k2, (SIZE, SIZE)) / SIZE**0.5
    return {"kernel": jnp.zeros((SIZE, SIZE))}, {"spread": spread, "target": target}


def noisy(params: Any, world: Any, key: jax.Array) -> jax.Array:
    """The squared error of a linear layer on a batch whose labels have noise of size 0.3."""
    k1, k2 = jax.random.split(key)
    x = jax.random.normal(k1, (BATCH, SIZE)) @ world["spread"]
    y = x @ world["target"] + 0.3 * jax.random.normal(k2, (BATCH, SIZE))
    return 0.5 * jnp.mean(jnp.sum(jnp.square(x @ params["kernel"] - y), axis=1)) / SIZE


def expected_excess(params: Any, world: Any) -> jax.Array:
    """The expected loss without the part that comes from the noise."""
    error = world["spread"] @ (params["kernel"] - world["target"])
    return 0.5 * jnp.sum(jnp.square(error)) / SIZE


def draw_factors(key: jax.Array, data: None) -> tuple[Any, Any]:
    """Two small factors, next to the saddle where both are zero, and a matrix of rank four."""
    k1, k2, k3, k4 = jax.random.split(key, 4)
    u, v = (rotation(k, SIZE)[:, :RANK] for k in (k1, k2))
    target = (u * jnp.array([8.0, 4.0, 2.0, 1.0])[None]) @ v.T
    small = {
        "left": 1e-3 * jax.random.normal(k3, (SIZE, 2 * RANK)),
        "right": 1e-3 * jax.random.normal(k4, (2 * RANK, SIZE)),
    }
    return small, {"target": target}


def factors(params: Any, world: Any, key: Any = None) -> jax.Array:
    error = params["left"] @ params["right"] - world["target"]
    return 0.5 * jnp.sum(jnp.square(error)) / SIZE


ILL_CONDITIONED = Problem(
    "ill_conditioned",
    "Quadratic of a matrix, condition number 1,000,000",
    "Curvatures differ by a million and lie in no axis of the parameters. There is no noise.",
    "LightBench (2026) has problems of this kind; these matrices are our own.",
    300,
    "decimal logarithm of the distance to the minimum",
    (-3.0, -6.0),
    no_data,
    draw_ill_conditioned,
    ill_conditioned,
    exact(ill_conditioned),
)
NOISY = Problem(
    "noisy",
    "Linear layer, noisy labels, unequal inputs",
    "Small batches: an optimizer has to average, and the learning rate has to fall.",
    "LightBench (2026) has problems of this kind; these matrices are our own.",
    400,
    "decimal logarithm of the expected loss above its minimum",
    (-2.5, -3.0),
    no_data,
    draw_noisy,
    noisy,
    exact(expected_excess),
)
FACTORS = Problem(
    "factors",
    "Two factors of a matrix, from beside a saddle",
    "The start is next to a saddle, and singular values are learned one after the other.",
    "A. Saxe, J. McClelland, S. Ganguli (2013), arXiv:1312.6120, section 1 (the idea).",
    300,
    "decimal logarithm of the distance to the minimum",
    (-1.0, -4.0),
    no_data,
    draw_factors,
    factors,
    exact(factors),
)
